/// Small IDX files, written by hand.
#pragma once

#include <string>
#include <vector>

namespace lategrad {

/// The bytes of an IDX file of this element type.
inline std::string idx_file(const std::vector<std::uint32_t>& shape, const std::string& values, char type = 0x08) {
    std::string bytes{'\0', '\0', type, static_cast<char>(shape.size())};
    for (const std::uint32_t dimension : shape)
        for (const int shift : {24, 16, 8, 0}) bytes += static_cast<char>(dimension >> shift & 0xff);
    return bytes + values;
}

/// One byte for each number.
inline std::string bytes_of(const std::vector<int>& values) {
    return {values.begin(), values.end()};
}

} // namespace lategrad
