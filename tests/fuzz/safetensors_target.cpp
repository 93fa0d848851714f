/// Whatever safetensors file opens can be read: its tensors cover its data, and each is as long as its shape says.
#include <algorithm>
#include <cmath>

#include "lategrad/data/arrays.h"
#include "lategrad/files/safetensors.h"
#include "tests/fuzz/file.h"
#include "tests/fuzz/input.h"

namespace lategrad::fuzz {
namespace {

constexpr std::size_t kLengthBytes = 8;

/// The header ends with the last brace.
void put_length_right(std::span<std::byte> file) {
    if (file.size() < kLengthBytes) return;
    const auto end = std::ranges::find(file.rbegin(), file.rend() - kLengthBytes, std::byte{'}'}).base();
    store(file, 0, static_cast<std::uint64_t>(end - file.begin()) - kLengthBytes);
}

void read_all(const SafetensorsFile& file, std::size_t data_bytes) {
    std::size_t covered = 0;
    for (const auto& tensor : file.tensors()) {
        const std::string& name = tensor.first;
        const std::size_t elements = tensor.second.elements();
        const auto raw = file.bytes(name);
        covered += raw.size();
        // Touched, so that a sanitizer sees what is outside the file.
        CHECK(std::ranges::count(raw, std::byte{0}) <= std::ssize(raw));
        CHECK(elements == 0 ? raw.empty() : raw.size() % elements == 0);
        passes(file.path().string(), [&] { CHECK(file.floats(name).size() == elements); });
        passes(file.path().string(), [&] { CHECK(file.integers(name).size() == elements); });
    }
    CHECK(covered == data_bytes);
}

void read_as_arrays(const SafetensorsFile& file) {
    const Rows rows = read_rows(file, "x", "y");
    CHECK(rows.size() > 0 && rows.features.size() % rows.size() == 0);
    CHECK(std::ranges::all_of(rows.features, [](float value) { return std::isfinite(value); }));
    const std::int64_t classes = rows.classification ? *std::ranges::max_element(rows.labels) + 1 : 0;
    const std::vector<std::uint32_t> all{0, static_cast<std::uint32_t>(rows.size() - 1)};
    Batch batch;
    make_array_dataset(rows, classes)->gather(all, batch);
}

class SafetensorsTarget final : public Target {
  public:
    explicit SafetensorsTarget(bool arrays) : arrays_(arrays) {}

    bool run(unsigned control, Bytes bytes) const override {
        if ((control & (kSealAsIs | kLengthsAsIs)) == 0) put_length_right(bytes);
        const MemoryFile input(bytes);
        return passes(input.path(), [&] {
            const SafetensorsFile file(input.path());
            read_all(file, bytes.size() - kLengthBytes - load<std::uint64_t>(bytes, 0));
            if (arrays_) read_as_arrays(file);
        });
    }

    std::vector<Bytes> payloads() const override {
        std::vector<Bytes> out{file(R"({"x":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                                    R"("y":{"dtype":"I64","shape":[2],"data_offsets":[24,40]}})",
                                    40),
                               file(R"({"y":{"dtype":"F64","shape":[1],"data_offsets":[2,10]},)"
                                    R"("x":{"dtype":"BF16","shape":[1,1],"data_offsets":[0,2]}} )",
                                    10)};
        if (arrays_) return out;
        out.push_back(file(R"({"__metadata__":{"model":"lenet"},"none":{"dtype":"U8","shape":[3,0],)"
                           R"("data_offsets":[0,0]},"half":{"dtype":"F16","shape":[],"data_offsets":[0,2]}})",
                           2));
        out.push_back(file("{}", 0));
        return out;
    }

  private:
    static Bytes file(std::string_view header, std::size_t data_bytes) {
        Bytes out(kLengthBytes);
        store(out, 0, std::uint64_t{header.size()});
        const Bytes text = bytes_in(header);
        out.insert(out.end(), text.begin(), text.end());
        out.resize(out.size() + data_bytes);
        return out;
    }

    bool arrays_;
};

} // namespace

std::unique_ptr<Target> make_safetensors_target(const std::string& spec) {
    return std::make_unique<SafetensorsTarget>(spec == "arrays");
}

} // namespace lategrad::fuzz
