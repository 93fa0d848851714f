/// A checkpoint: a folder with the state of a run at a version.
///
///     checkpoints/000000000120/
///       weights.safetensors   the parameters by name, for whoever reads such files
///       config.toml           the run's options
///       state.bin             all other state (core/archive.h)
///       buffers.bin           the buffers that the state holds, one behind the other
///       checkpoint.json       what it is, and bytes and checksum of each file; written last (manifest.h)
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "lategrad/checkpoint/manifest.h"
#include "lategrad/core/archive.h"
#include "lategrad/core/buffer.h"
#include "lategrad/files/mapped_file.h"
#include "lategrad/files/safetensors.h"

namespace lategrad {

inline constexpr const char* kManifestFile = "checkpoint.json";
inline constexpr const char* kWeightsFile = "weights.safetensors";
inline constexpr const char* kConfigFile = "config.toml";
inline constexpr const char* kStateFile = "state.bin";
inline constexpr const char* kBuffersFile = "buffers.bin";

/// What is to be saved. Made where the state lives, which is cheap, and saved by any thread: it shares the buffers.
struct CheckpointContents {
    CheckpointSummary summary;
    std::string config_toml;
    std::vector<TensorView> weights; ///< views of `parameters`; none where a simulation has no parameters
    Buffer parameters;               ///< kept for the views
    ArchiveWriter::Captured state;
};

/// A checkpoint on disk, all of whose bytes are what they were.
class Checkpoint {
  public:
    /// Reads all of it. Throws InputError, "PATH: FILE is damaged (…)".
    explicit Checkpoint(const std::filesystem::path& path);

    const std::filesystem::path& path() const { return path_; }
    const CheckpointSummary& summary() const { return summary_; }
    const std::string& config_toml() const { return config_toml_; }
    std::filesystem::path weights() const { return path_ / kWeightsFile; }

    /// Reads the state by `read`, the counterpart of what wrote it. Buffers of pools that `read` does not name come
    /// from `unnamed`. Returns what ArchiveReader::finish does. Throws InputError naming the file where the state does
    /// not fit what it is read into.
    bool read_state(BufferPool& unnamed, const std::function<void(Archive&)>& read) const;

  private:
    Checkpoint(const std::filesystem::path& path, const CheckpointManifest& manifest);

    std::filesystem::path path_;
    CheckpointSummary summary_;
    std::string config_toml_;
    MappedFile state_;
    MappedFile buffers_;
};

} // namespace lategrad
