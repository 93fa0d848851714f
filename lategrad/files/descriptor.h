/// The door to the operating system's files, for this folder alone.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <utility>

namespace lategrad {

/// Owns an open file.
class Descriptor {
  public:
    explicit Descriptor(int number) : number_(number) {}
    Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    Descriptor& operator=(Descriptor&&) = delete;
    ~Descriptor();

    int number() const { return number_; }
    /// False where closing failed, which on network file systems is where a failed write shows.
    bool close();

  private:
    int number_;
};

/// What errno says.
std::string error_text(int error);

/// Throws InputError naming the file.
Descriptor open_to_read(const std::filesystem::path& path);

/// Reads until `out` is full or the file ends, and returns how many bytes. Throws InputError naming the file.
std::size_t read_up_to(const Descriptor& file, std::span<std::byte> out, const std::filesystem::path& path);

} // namespace lategrad
