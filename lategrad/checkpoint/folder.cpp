#include "lategrad/checkpoint/folder.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"
#include "lategrad/files/file.h"

namespace lategrad {
namespace {

using Path = std::filesystem::path;
using Pieces = std::vector<std::span<const std::byte>>;

/// A checkpoint that makes room for another one of its version, where the two cannot change places at once.
constexpr std::string_view kReplaced = ".replaced";
constexpr std::string_view kTemporary = ".tmp-";

std::string name_of(Version version) {
    return fmt::format("{:012}", version.value());
}

std::optional<Version> version_of(std::string_view name) {
    if (name.size() < 12 || !std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; })) return {};
    const auto value = parse_number<std::uint64_t>(name);
    return value ? std::optional(Version{*value}) : std::nullopt;
}

bool is_temporary(std::string_view name) {
    const auto at = name.find(kTemporary);
    return name.starts_with('.') && at != name.npos && version_of(name.substr(1, at - 1));
}

/// `.VERSION.tmp-PID`, which nobody takes for a checkpoint. Not the one that is being written.
Path temporary(const Path& folder, Version version, std::string_view what = {}) {
    return folder / fmt::format(".{}{}{}{}", name_of(version), kTemporary, ::getpid(), what);
}

std::vector<Path> entries(const Path& folder) {
    std::vector<Path> paths;
    std::error_code error; // as if there were none
    for (auto at = std::filesystem::directory_iterator(folder, error);
         !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
        paths.push_back(at->path());
    }
    return paths;
}

void rename_folder(const Path& from, const Path& to) {
    if (std::rename(from.c_str(), to.c_str()) != 0) throw write_error(to, errno);
}

/// The checkpoint is gone at once, and then its bytes.
void remove_checkpoint(const FoundCheckpoint& found) {
    const Path removed = temporary(found.path.parent_path(), found.version, "-removed");
    std::error_code ignored; // what is left is removed by the next save
    std::filesystem::rename(found.path, removed, ignored);
    std::filesystem::remove_all(removed, ignored);
}

void remove_leftovers(const Path& folder) {
    std::error_code ignored;
    for (const Path& path : entries(folder)) {
        const std::string name = path.filename().string();
        if (is_temporary(name)) std::filesystem::remove_all(path, ignored);
        if (!name.ends_with(kReplaced)) continue;
        const Path original = path.parent_path() / path.stem();
        if (!version_of(original.filename().string())) continue;
        // The one that was to take its place has not come, or it has.
        if (!std::filesystem::exists(original, ignored)) std::filesystem::rename(path, original, ignored);
        else std::filesystem::remove_all(path, ignored);
    }
}

/// `from` becomes `to`; what is there becomes `from`, or nothing.
void put_in_place(const Path& from, const Path& to) {
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) return;
    if (errno == ENOENT) return rename_folder(from, to);
    if (errno != EINVAL && errno != ENOSYS && errno != EXDEV && errno != ENOTSUP) throw write_error(to, errno);
    // A file system without exchange. find_checkpoints knows the old one by either name.
    if (!std::filesystem::exists(to)) return rename_folder(from, to);
    Path replaced = to;
    replaced += kReplaced;
    rename_folder(to, replaced);
    rename_folder(from, to);
    rename_folder(replaced, from);
}

/// Writes the files of a checkpoint into the temporary folder.
class Writing {
  public:
    Writing(const Path& folder, const Path& known_as) : folder_(folder), known_as_(known_as) {
        std::error_code ignored;
        std::filesystem::remove_all(folder, ignored);
        std::error_code error;
        std::filesystem::create_directory(folder, error);
        if (error) throw write_error(known_as, error.value());
    }
    ~Writing() {
        std::error_code ignored;
        std::filesystem::remove_all(folder_, ignored); // what was not put in place, or what it has replaced
    }
    Writing(const Writing&) = delete;
    Writing& operator=(const Writing&) = delete;

    void write(const char* name, const Pieces& pieces) {
        std::uint64_t bytes = 0;
        for (const auto piece : pieces) bytes += piece.size();
        write_file_synced(folder_ / name, pieces, known_as_ / name);
        manifest_.files[name] = {.bytes = bytes, .checksum = checksum_of(pieces)};
    }
    void finish(const CheckpointSummary& summary) {
        manifest_.summary = summary;
        const std::string json = to_json(manifest_);
        write_file_synced(folder_ / kManifestFile, Pieces{std::as_bytes(std::span(json))}, known_as_ / kManifestFile);
        sync_folder(folder_);
        put_in_place(folder_, known_as_);
        sync_folder(known_as_.parent_path());
    }

  private:
    Path folder_;
    Path known_as_;
    CheckpointManifest manifest_;
};

} // namespace

CheckpointFolder::CheckpointFolder(Path path, std::size_t keep) : path_(std::move(path)), keep_(keep) {
    std::error_code error;
    std::filesystem::create_directories(path_, error);
    if (error) throw write_error(path_, error.value());
    sync_folder(path_.parent_path()); // or a checkpoint that lasts could be in a folder that does not
    remove_leftovers(path_);
}

Path CheckpointFolder::save(const CheckpointContents& contents) {
    const Version version = contents.summary.version;
    const Path path = path_ / name_of(version);
    remove_leftovers(path_);
    {
        Writing writing(temporary(path_, version), path);
        const std::string header = safetensors_header(contents.weights);
        Pieces weights{std::as_bytes(std::span(header))};
        for (const TensorView& tensor : contents.weights) weights.push_back(std::as_bytes(tensor.values));
        writing.write(kWeightsFile, weights);
        writing.write(kConfigFile, {std::as_bytes(std::span(contents.config_toml))});
        writing.write(kStateFile, {contents.state.state});
        writing.write(kBuffersFile, contents.state.blobs());
        writing.finish(contents.summary);
    }
    std::size_t kept = 0;
    for (const FoundCheckpoint& found : find_checkpoints(path_)) {
        const bool keeps = found.version <= version && (keep_ == 0 || kept < keep_);
        if (keeps) ++kept;
        else remove_checkpoint(found);
    }
    return path;
}

std::vector<FoundCheckpoint> find_checkpoints(const Path& folder) {
    std::vector<FoundCheckpoint> found;
    const std::vector<Path> paths = entries(folder);
    for (const Path& path : paths) {
        const auto version = version_of(path.filename().string());
        if (version) {
            found.push_back({*version, path});
        } else if (path.extension() == kReplaced) {
            const auto replaced = version_of(path.stem().string());
            const bool gone = std::ranges::find(paths, folder / path.stem()) == paths.end();
            if (replaced && gone) found.push_back({*replaced, path});
        }
    }
    std::ranges::sort(found, std::greater<>(), &FoundCheckpoint::version);
    return found;
}

Checkpoint open_newest(const Path& folder, const std::function<void(const std::string&)>& warn) {
    std::vector<std::string> damaged;
    for (const FoundCheckpoint& found : find_checkpoints(folder)) {
        try {
            Checkpoint checkpoint(found.path);
            for (const std::string& what : damaged) warn(fmt::format("{}; using {}", what, found.path.string()));
            return checkpoint;
        } catch (const InputError& error) {
            damaged.emplace_back(error.what());
        }
    }
    if (damaged.empty()) throw InputError(fmt::format("{}: holds no checkpoint", folder.string()));
    throw InputError(fmt::format("{}: holds no checkpoint that is whole: {}", folder.string(), damaged.front()));
}

} // namespace lategrad
