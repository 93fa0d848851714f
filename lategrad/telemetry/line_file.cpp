#include "lategrad/telemetry/line_file.h"

#include <cerrno>
#include <string_view>
#include <system_error>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace lategrad {
namespace {

int open_alone(const std::filesystem::path& path, int flags) {
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | flags, 0666);
    // Where a file system has no locks, nobody is kept out.
    if (descriptor >= 0 && (::flock(descriptor, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)) return descriptor;
    const int error = errno;
    if (descriptor >= 0) ::close(descriptor);
    throw std::system_error(error, std::generic_category(), path.string());
}

} // namespace

LineFile LineFile::create(const std::filesystem::path& path) {
    return LineFile(open_alone(path, O_CREAT | O_EXCL));
}

LineFile LineFile::append(const std::filesystem::path& path) {
    return LineFile(open_alone(path, 0));
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
