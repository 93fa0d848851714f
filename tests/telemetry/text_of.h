#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace lategrad {

/// What is in a file; nothing where there is none.
inline std::string text_of(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

} // namespace lategrad
