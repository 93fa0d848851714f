/// A file that grows by lines.
#pragma once

#include <filesystem>
#include <string>
#include <utility>

namespace lategrad {

/// Collects text and writes it when told to. After a write that failed it writes no more, so that the file is a
/// beginning of what was meant, cut at most within its last line.
class LineFile {
  public:
    /// Makes the file. Throws std::system_error where it cannot, std::errc::file_exists where it is there already.
    static LineFile create(const std::filesystem::path& path);
    /// One that is there, to be written on at its end. Throws as create does; std::errc::resource_unavailable_try_again
    /// where another process has it.
    static LineFile append(const std::filesystem::path& path);

    LineFile(LineFile&& other) noexcept
        : descriptor_(std::exchange(other.descriptor_, -1)),
          pending_(std::move(other.pending_)),
          error_(other.error_) {}
    LineFile& operator=(LineFile&& other) noexcept {
        std::swap(descriptor_, other.descriptor_);
        std::swap(pending_, other.pending_);
        std::swap(error_, other.error_);
        return *this;
    }
    ~LineFile();

    /// Text that the next flush writes: append whole lines.
    std::string& pending() { return pending_; }
    void flush();
    /// Flushes and closes.
    void close();
    /// errno of the write that failed; 0 while all is well.
    int error() const { return error_; }

  private:
    explicit LineFile(int descriptor) : descriptor_(descriptor) {}

    int descriptor_;
    std::string pending_;
    int error_ = 0;
};

} // namespace lategrad
