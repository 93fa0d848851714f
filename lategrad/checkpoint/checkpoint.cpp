#include "lategrad/checkpoint/checkpoint.h"

#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/files/file.h"

namespace lategrad {
namespace {

using Path = std::filesystem::path;

/// A few thousand are right; the time that names take grows as the square of how many there are.
constexpr std::size_t kManifestBytesMax = std::size_t{1} << 16;

CheckpointManifest read_manifest(const Path& path) {
    const std::vector<std::byte> text = read_file(path / kManifestFile, kManifestBytesMax);
    try {
        return parse_manifest({reinterpret_cast<const char*>(text.data()), text.size()});
    } catch (const InputError& error) {
        throw InputError(fmt::format("{}: {} {}", path.string(), kManifestFile, error.what()));
    }
}

/// One of its files, once it is what the manifest says.
MappedFile open_file(const Path& path, const char* name, const CheckpointManifest& manifest) {
    const auto fail = [&](const std::string& what) {
        throw InputError(fmt::format("{}: {} is damaged ({})", path.string(), name, what));
    };
    const auto expected = manifest.files.find(name);
    if (expected == manifest.files.end()) fail(fmt::format("{} does not know it", kManifestFile));
    std::error_code ignored;
    if (!std::filesystem::exists(path / name, ignored)) fail("it is missing");
    MappedFile file(path / name);
    if (file.bytes().size() != expected->second.bytes) {
        fail(fmt::format("{} bytes of {}", file.bytes().size(), expected->second.bytes));
    }
    if (checksum_of(file.bytes()) != expected->second.checksum) fail("checksum differs");
    return file;
}

std::string text_of(const MappedFile& file) {
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

} // namespace

Checkpoint::Checkpoint(const Path& path) : Checkpoint(path, read_manifest(path)) {}

Checkpoint::Checkpoint(const Path& path, const CheckpointManifest& manifest)
    : path_(path),
      summary_(manifest.summary),
      config_toml_(text_of(open_file(path, kConfigFile, manifest))),
      state_(open_file(path, kStateFile, manifest)),
      buffers_(open_file(path, kBuffersFile, manifest)) {
    open_file(path, kWeightsFile, manifest);
}

bool Checkpoint::read_state(BufferPool& unnamed, const std::function<void(Archive&)>& read) const {
    try {
        ArchiveReader reader(state_.bytes(), buffers_.bytes(), unnamed);
        read(reader);
        return reader.finish();
    } catch (const InputError& error) {
        throw InputError(fmt::format("{}: {}", (path_ / kStateFile).string(), error.what()));
    }
}

} // namespace lategrad
