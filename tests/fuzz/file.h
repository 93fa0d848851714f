/// What targets share that read files.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lategrad/core/error.h"
#include "tests/fuzz/target.h"

namespace lategrad::fuzz {

/// A file that is in memory alone and has a path, so that what reads files need not know.
class MemoryFile {
  public:
    explicit MemoryFile(std::span<const std::byte> bytes) : number_(::memfd_create("input", MFD_CLOEXEC)) {
        CHECK(number_ >= 0);
        CHECK(::write(number_, bytes.data(), bytes.size()) == std::ssize(bytes));
        CHECK(::fchmod(number_, 0600) == 0); // secret keys must be their owner's alone
    }
    ~MemoryFile() { ::close(number_); }
    MemoryFile(const MemoryFile&) = delete;
    MemoryFile& operator=(const MemoryFile&) = delete;

    std::string path() const { return "/proc/self/fd/" + std::to_string(number_); }

  private:
    int number_;
};

inline Bytes bytes_in(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

inline std::string_view text_in(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Files are gunzipped where they begin so. A few bytes can then be many, so that this has a target of its own, with a
/// limit.
inline bool is_gzipped(std::span<const std::byte> bytes) {
    return bytes.size() >= 2 && bytes[0] == std::byte{0x1f} && bytes[1] == std::byte{0x8b};
}

/// Whether `action` has nothing to complain of. It may complain by an InputError, which names `where`, and by nothing
/// else.
template <class Action>
bool passes(std::string_view where, Action action) {
    try {
        action();
        return true;
    } catch (const InputError& error) {
        CHECK(std::string_view(error.what()).find(where) != std::string_view::npos);
        return false;
    }
}

} // namespace lategrad::fuzz
