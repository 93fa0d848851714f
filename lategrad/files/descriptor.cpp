#include "lategrad/files/descriptor.h"

#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "lategrad/core/error.h"

namespace lategrad {

Descriptor::~Descriptor() {
    close();
}

bool Descriptor::close() {
    if (number_ < 0) return true;
    return ::close(std::exchange(number_, -1)) == 0;
}

std::string error_text(int error) {
    return std::generic_category().message(error);
}

Descriptor open_to_read(const std::filesystem::path& path) {
    Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.number() < 0) throw InputError(fmt::format("{}: cannot open: {}", path.string(), error_text(errno)));
    return file;
}

std::size_t read_up_to(const Descriptor& file, std::span<std::byte> out, const std::filesystem::path& path) {
    std::size_t filled = 0;
    while (filled < out.size()) {
        const ssize_t got = ::read(file.number(), out.data() + filled, out.size() - filled);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) throw InputError(fmt::format("{}: cannot read: {}", path.string(), error_text(errno)));
        if (got == 0) break;
        filled += static_cast<std::size_t>(got);
    }
    return filled;
}

} // namespace lategrad
