/// The checkpoints of a run: written so that at every moment there is a whole one, whatever is killed or full.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "lategrad/checkpoint/checkpoint.h"

namespace lategrad {

/// Writes checkpoints. One thread at a time, and one writer at a time for a folder.
class CheckpointFolder {
  public:
    /// Keeps the newest `keep` checkpoints; 0, all. Makes the folder, and removes what a writer that was killed left
    /// half done. Throws EnvironmentError naming the folder.
    CheckpointFolder(std::filesystem::path path, std::size_t keep);

    /// Writes a checkpoint, then removes those that are not to be kept. One of the same version is replaced; those of
    /// later versions are removed, because the run that made them was rolled back behind them. Returns where it is.
    /// Throws EnvironmentError naming file and cause; then the checkpoints are those that were there.
    std::filesystem::path save(const CheckpointContents& contents);

    const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
    std::size_t keep_;
};

struct FoundCheckpoint {
    Version version;
    std::filesystem::path path;
};

/// The checkpoints in a folder, the newest first, damaged ones too; none where there is no such folder.
std::vector<FoundCheckpoint> find_checkpoints(const std::filesystem::path& folder);

/// The newest one that is whole. `warn` is told of every newer one, what is wrong with it and which is used. Throws
/// InputError where none is whole.
Checkpoint open_newest(const std::filesystem::path& folder, const std::function<void(const std::string&)>& warn);

} // namespace lategrad
