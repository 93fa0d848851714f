#include "lategrad/telemetry/line_file.h"

#include <cerrno>
#include <string_view>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

namespace lategrad {

LineFile LineFile::create(const std::filesystem::path& path) {
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor < 0) throw std::system_error(errno, std::generic_category(), path.string());
    return LineFile(descriptor);
}

LineFile LineFile::append(const std::filesystem::path& path) {
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (descriptor < 0) throw std::system_error(errno, std::generic_category(), path.string());
    return LineFile(descriptor);
}

LineFile::~LineFile() {
    close();
}

void LineFile::flush() {
    std::string_view text = pending_;
    while (!text.empty() && error_ == 0) {
        const ssize_t wrote = ::write(descriptor_, text.data(), text.size());
        if (wrote >= 0) text.remove_prefix(static_cast<std::size_t>(wrote));
        else if (errno != EINTR) error_ = errno;
    }
    pending_.clear();
}

void LineFile::close() {
    if (descriptor_ < 0) return;
    flush();
    if (::close(std::exchange(descriptor_, -1)) != 0 && error_ == 0) error_ = errno;
}

} // namespace lategrad
