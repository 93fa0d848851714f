/// Whatever IDX file is read has in it what its header says.
#include "lategrad/data/idx.h"
#include "tests/data/idx_files.h"
#include "tests/fuzz/file.h"
#include "tests/fuzz/input.h"

namespace lategrad::fuzz {
namespace {

constexpr std::size_t kMagicBytes = 4;
constexpr std::int64_t kClasses = 10;

std::string images() {
    return idx_file({2, 2, 3}, bytes_of({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255}));
}
std::string labels() {
    return idx_file({2}, bytes_of({0, 9}));
}

class IdxTarget final : public Target {
  public:
    explicit IdxTarget(std::size_t dimensions) : dimensions_(dimensions) {}

    bool run(unsigned control, Bytes bytes) const override {
        put_right(bytes, control);
        if (is_gzipped(bytes)) return false;
        const MemoryFile input(bytes);
        const bool passed = passes(input.path(), [&] {
            const IdxArray array = read_idx(input.path(), dimensions_);
            const std::vector<std::uint32_t> shape(array.shape.begin(), array.shape.end());
            CHECK(bytes_in(idx_file(shape, std::string(text_in(array.values)))) == bytes);
        });
        read_with_its_partner(input.path());
        return passed;
    }

    std::vector<Bytes> payloads() const override { return {bytes_in(dimensions_ == 1 ? labels() : images())}; }

  private:
    void put_right(std::span<std::byte> bytes, unsigned control) const {
        const std::size_t header = kMagicBytes + 4 * dimensions_;
        if ((control & kSealAsIs) != 0 || bytes.size() < header) return;
        store(bytes, 0, static_cast<std::uint32_t>(dimensions_ << 24 | 0x08 << 16)); // big-endian
        if ((control & kLengthsAsIs) != 0) return;
        std::uint64_t each = 1;
        for (std::size_t i = 1; i < dimensions_; ++i) {
            each *= __builtin_bswap32(load<std::uint32_t>(bytes, kMagicBytes + 4 * i)) & 0xff;
        }
        if (each == 0) return;
        store(bytes, kMagicBytes, __builtin_bswap32(static_cast<std::uint32_t>((bytes.size() - header) / each)));
    }
    void read_with_its_partner(const std::string& path) const {
        const MemoryFile partner(bytes_in(dimensions_ == 1 ? images() : labels()));
        const std::string other = partner.path();
        passes("/proc/self/fd/", [&] {
            const LabelledImages both = dimensions_ == 1 ? read_labelled_images(other, path, kClasses)
                                                         : read_labelled_images(path, other, kClasses);
            CHECK(both.pixels.size() == both.labels.size() * both.height * both.width && !both.pixels.empty());
            for (const std::int64_t label : both.labels) CHECK(label >= 0 && label < kClasses);
        });
    }

    std::size_t dimensions_;
};

} // namespace

std::unique_ptr<Target> make_idx_target(const std::string& spec) {
    return std::make_unique<IdxTarget>(spec == "labels" ? 1 : 3);
}

} // namespace lategrad::fuzz
