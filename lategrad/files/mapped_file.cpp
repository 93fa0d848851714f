#include "lategrad/files/mapped_file.h"

#include <cerrno>

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "lategrad/core/error.h"
#include "lategrad/files/descriptor.h"

namespace lategrad {

MappedFile::MappedFile(const std::filesystem::path& path) {
    const Descriptor file = open_to_read(path);
    struct stat status {};
    if (::fstat(file.number(), &status) != 0 || !S_ISREG(status.st_mode)) {
        throw InputError(fmt::format("{}: not a plain file", path.string()));
    }
    const auto bytes = static_cast<std::size_t>(status.st_size);
    if (bytes == 0) return; // there is no mapping of nothing
    void* map = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file.number(), 0);
    if (map == MAP_FAILED) throw EnvironmentError(fmt::format("{}: cannot map: {}", path.string(), error_text(errno)));
    bytes_ = {static_cast<const std::byte*>(map), bytes};
}

MappedFile::~MappedFile() {
    if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

} // namespace lategrad
