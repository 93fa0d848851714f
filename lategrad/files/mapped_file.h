/// A whole file in memory without a copy of it.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <utility>

namespace lategrad {

/// Read-only, as long as it lives. REQUIRES: nobody cuts the file short in the meantime.
class MappedFile {
  public:
    /// Throws InputError naming the file.
    explicit MappedFile(const std::filesystem::path& path);
    MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
    MappedFile& operator=(MappedFile&&) = delete;
    ~MappedFile();

    std::span<const std::byte> bytes() const { return bytes_; }

  private:
    std::span<const std::byte> bytes_;
};

} // namespace lategrad
