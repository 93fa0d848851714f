#include "lategrad/files/file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <memory>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "lategrad/core/error.h"
#include "lategrad/files/descriptor.h"

namespace lategrad {
namespace {

using Path = std::filesystem::path;
using Bytes = std::vector<std::byte>;

constexpr std::size_t kChunkBytes = std::size_t{64} << 10;

void append(Bytes& bytes, std::span<const std::byte> more, std::size_t bytes_max, const Path& path) {
    if (more.size() > bytes_max - bytes.size())
        throw InputError(fmt::format("{}: longer than {} bytes, the limit for such a file", path.string(), bytes_max));
    bytes.insert(bytes.end(), more.begin(), more.end());
}

/// zlib's decompressor for the gzip format.
class Inflater {
  public:
    Inflater() { CHECK(::inflateInit2(&stream_, MAX_WBITS + 16) == Z_OK); }
    ~Inflater() { ::inflateEnd(&stream_); }
    Inflater(const Inflater&) = delete;
    Inflater& operator=(const Inflater&) = delete;
    z_stream* operator->() { return &stream_; }
    z_stream* get() { return &stream_; }

  private:
    z_stream stream_{};
};

/// 0 where that is not known, as of what can be read only once.
std::size_t bytes_of(const Descriptor& file) {
    struct stat status {};
    return ::fstat(file.number(), &status) == 0 && S_ISREG(status.st_mode) ? static_cast<std::size_t>(status.st_size)
                                                                           : 0;
}

/// What a long gzip file says of its length in its last four bytes, within what it can come to; to go by, not to trust.
std::size_t gunzipped_bytes(const Descriptor& file) {
    constexpr std::size_t kRatioMax = 1032; // of the deflate format
    std::array<std::uint8_t, 4> last{};
    const std::size_t compressed = bytes_of(file);
    if (compressed <= kChunkBytes ||
        ::pread(file.number(), last.data(), last.size(), static_cast<off_t>(compressed - last.size())) !=
            static_cast<ssize_t>(last.size()))
        return 0;
    const std::size_t says = last[0] | last[1] << 8 | last[2] << 16 | std::size_t{last[3]} << 24;
    return std::min(says, kRatioMax * compressed);
}

/// Decompresses what is left of `file`, of which `input`, of `chunk`, was read already.
Bytes gunzip(const Descriptor& file, std::span<std::byte> chunk, std::size_t input, std::size_t bytes_max,
             const Path& path) {
    Inflater inflater;
    Bytes bytes;
    bytes.reserve(std::min(gunzipped_bytes(file), bytes_max));
    const auto memory = std::make_unique_for_overwrite<std::byte[]>(kChunkBytes);
    const std::span output(memory.get(), kChunkBytes);
    std::size_t offset = 0;    // of the chunk in the compressed file
    bool member_ended = false; // a gzip file is one or several members
    for (; input > 0; offset += input, input = read_up_to(file, chunk, path)) {
        inflater->next_in = reinterpret_cast<Bytef*>(chunk.data());
        inflater->avail_in = static_cast<uInt>(input);
        do {
            if (member_ended) ::inflateReset(inflater.get());
            inflater->next_out = reinterpret_cast<Bytef*>(output.data());
            inflater->avail_out = static_cast<uInt>(output.size());
            const int result = ::inflate(inflater.get(), Z_NO_FLUSH);
            const bool needs_input = result == Z_BUF_ERROR && inflater->avail_in == 0;
            if (result != Z_OK && result != Z_STREAM_END && !needs_input)
                throw InputError(fmt::format("{}: damaged gzip data near offset {}{}{}", path.string(),
                                             offset + input - inflater->avail_in, inflater->msg ? ": " : "",
                                             inflater->msg ? inflater->msg : ""));
            append(bytes, output.first(output.size() - inflater->avail_out), bytes_max, path);
            member_ended = result == Z_STREAM_END;
        } while (inflater->avail_in > 0 || (!member_ended && inflater->avail_out == 0));
    }
    if (!member_ended) throw InputError(fmt::format("{}: truncated: gzip data ends at {}", path.string(), offset));
    return bytes;
}

void write_all(const Descriptor& file, std::span<const std::byte> bytes, const Path& path) {
    while (!bytes.empty()) {
        const ssize_t wrote = ::write(file.number(), bytes.data(), bytes.size());
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) throw write_error(path, errno);
        bytes = bytes.subspan(static_cast<std::size_t>(wrote));
    }
}

/// Many small pieces become few writes.
void write_pieces(const Descriptor& file, std::span<const std::span<const std::byte>> pieces, const Path& path) {
    Bytes gathered;
    for (const auto piece : pieces) {
        if (gathered.size() + piece.size() > kChunkBytes) {
            write_all(file, gathered, path);
            gathered.clear();
        }
        if (piece.size() > kChunkBytes / 4) {
            write_all(file, gathered, path);
            gathered.clear();
            write_all(file, piece, path);
        } else {
            gathered.insert(gathered.end(), piece.begin(), piece.end());
        }
    }
    write_all(file, gathered, path);
}

} // namespace

Bytes read_file(const Path& path, std::size_t bytes_max) {
    const Descriptor file = open_to_read(path);
    const auto memory = std::make_unique_for_overwrite<std::byte[]>(kChunkBytes);
    const std::span chunk(memory.get(), kChunkBytes);
    std::size_t got = read_up_to(file, chunk, path);
    if (got >= 2 && chunk[0] == std::byte{0x1f} && chunk[1] == std::byte{0x8b})
        return gunzip(file, chunk, got, bytes_max, path);
    Bytes bytes;
    bytes.reserve(std::min(bytes_of(file), bytes_max));
    for (; got > 0; got = read_up_to(file, chunk, path)) append(bytes, chunk.first(got), bytes_max, path);
    return bytes;
}

EnvironmentError write_error(const Path& path, int error) {
    const char* advice = error == ENOSPC || error == EDQUOT ? "free space there or choose another folder"
                                                            : "check that the folder exists and may be written to";
    return EnvironmentError(fmt::format("cannot write {}: {}; {}", path.string(), error_text(error), advice));
}

/// Some file systems cannot sync folders and say EINVAL.
void sync_file(const Path& path) {
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.number() < 0 || (::fsync(file.number()) != 0 && errno != EINVAL)) throw write_error(path, errno);
}

void sync_folder(const Path& folder) {
    const Descriptor file(::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (file.number() < 0 || (::fsync(file.number()) != 0 && errno != EINVAL)) throw write_error(folder, errno);
}

void write_file_synced(const Path& path, std::span<const std::span<const std::byte>> pieces, const Path& known_as) {
    Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (file.number() < 0) throw write_error(known_as, errno);
    try {
        write_pieces(file, pieces, known_as);
        if (::fsync(file.number()) != 0 || !file.close()) throw write_error(known_as, errno);
    } catch (...) {
        ::unlink(path.c_str());
        throw;
    }
}

void write_file_atomically(const Path& path, std::span<const std::span<const std::byte>> pieces) {
    Path temporary = path;
    temporary += ".tmp";
    write_file_synced(temporary, pieces, path);
    if (std::rename(temporary.c_str(), path.c_str()) != 0) {
        const int error = errno;
        ::unlink(temporary.c_str());
        throw write_error(path, error);
    }
    sync_folder(path.parent_path());
}

void write_file_atomically(const Path& path, std::span<const std::byte> bytes) {
    write_file_atomically(path, std::span<const std::span<const std::byte>>(&bytes, 1));
}

void write_file_atomically(const Path& path, std::string_view text) {
    write_file_atomically(path, std::as_bytes(std::span(text)));
}

} // namespace lategrad
