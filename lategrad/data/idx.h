/// IDX files, the format of MNIST and its relatives (http://yann.lecun.com/exdb/mnist): a magic number that tells the
/// element type and the number of dimensions, the big-endian dimensions, the elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

namespace lategrad {

/// Unsigned bytes, row-major.
struct IdxArray {
    std::vector<std::size_t> shape;
    std::vector<std::byte> values;
};

/// An IDX file, gzipped or not, of unsigned bytes with this many dimensions. Throws InputError naming the file and the
/// offset (of the decompressed file).
IdxArray read_idx(const std::filesystem::path& path, std::size_t dimensions);

/// Grey images of one size, and what each shows.
struct LabelledImages {
    std::size_t height = 0;
    std::size_t width = 0;
    std::vector<std::byte> pixels;
    std::vector<std::int64_t> labels;
};

/// Reads two files that belong together; there is at least one image. Throws InputError where their counts differ or a
/// label is not below `classes_max`.
LabelledImages read_labelled_images(const std::filesystem::path& images, const std::filesystem::path& labels,
                                    std::int64_t classes_max);

} // namespace lategrad
