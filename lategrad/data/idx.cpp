#include "lategrad/data/idx.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "lategrad/core/error.h"
#include "lategrad/files/file.h"

namespace lategrad {
namespace {

constexpr std::size_t kFileBytesMax = std::size_t{4} << 30;
constexpr unsigned kUnsignedByte = 0x08;

std::uint32_t big_endian(const std::byte* bytes) {
    std::uint32_t value = 0;
    for (int i = 0; i < 4; ++i) value = value << 8 | std::to_integer<std::uint32_t>(bytes[i]);
    return value;
}

} // namespace

IdxArray read_idx(const std::filesystem::path& path, std::size_t dimensions) {
    const std::string file = path.string();
    IdxArray array{.shape = {}, .values = read_file(path, kFileBytesMax)};
    std::vector<std::byte>& bytes = array.values;

    const std::size_t header_bytes = 4 + 4 * dimensions;
    if (bytes.size() < 4) throw InputError(fmt::format("{}: not an IDX file: {} bytes long", file, bytes.size()));
    const std::uint32_t magic = big_endian(bytes.data());
    if (magic >> 16 != 0)
        throw InputError(fmt::format("{}: offset 0: not an IDX file: it begins with {:#010x}", file, magic));
    if ((magic >> 8 & 0xff) != kUnsignedByte)
        throw InputError(fmt::format("{}: offset 2: element type {:#04x}; only unsigned bytes ({:#04x}) are read", file,
                                     magic >> 8 & 0xff, kUnsignedByte));
    if ((magic & 0xff) != dimensions)
        throw InputError(fmt::format("{}: offset 3: {} dimensions where {} have {}", file, magic & 0xff,
                                     dimensions == 1 ? "labels" : "images", dimensions));
    if (bytes.size() < header_bytes)
        throw InputError(fmt::format("{}: truncated: ends at offset {}, within its header of {} bytes", file,
                                     bytes.size(), header_bytes));

    std::size_t elements = 1;
    bool too_large = false;
    for (std::size_t i = 0; i < dimensions; ++i) {
        array.shape.push_back(big_endian(bytes.data() + 4 + 4 * i));
        too_large |= __builtin_mul_overflow(elements, array.shape.back(), &elements);
    }
    if (too_large || elements > bytes.size() - header_bytes)
        throw InputError(fmt::format("{}: truncated: offset 4 announces {} bytes of data, {} are there", file,
                                     fmt::join(array.shape, " × "), bytes.size() - header_bytes));
    if (elements < bytes.size() - header_bytes)
        throw InputError(fmt::format("{}: offset {}: {} bytes after the {} that offset 4 announces", file,
                                     header_bytes + elements, bytes.size() - header_bytes - elements,
                                     fmt::join(array.shape, " × ")));
    bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(header_bytes));
    return array;
}

LabelledImages read_labelled_images(const std::filesystem::path& images, const std::filesystem::path& labels,
                                    std::int64_t classes_max) {
    IdxArray pixels = read_idx(images, 3);
    const IdxArray classes = read_idx(labels, 1);
    if (pixels.values.empty()) throw InputError(fmt::format("{}: no image in it", images.string()));
    if (pixels.shape[0] != classes.shape[0])
        throw InputError(fmt::format("{} holds {} images, but {} holds {} labels", images.string(), pixels.shape[0],
                                     labels.string(), classes.shape[0]));
    LabelledImages result{
        .height = pixels.shape[1], .width = pixels.shape[2], .pixels = std::move(pixels.values), .labels = {}};
    result.labels.reserve(classes.values.size());
    for (std::size_t i = 0; i < classes.values.size(); ++i) {
        const auto label = std::to_integer<std::int64_t>(classes.values[i]);
        if (label >= classes_max)
            throw InputError(
                fmt::format("{}: label {} at offset {}; this data set has labels 0 to {} (--data FOLDER reads others)",
                            labels.string(), label, 8 + i, classes_max - 1));
        result.labels.push_back(label);
    }
    return result;
}

} // namespace lategrad
