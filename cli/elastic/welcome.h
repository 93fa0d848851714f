/// What the server of an elastic run tells a worker that comes: everything that it needs to compute gradients.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "cli/training.h"
#include "lategrad/server/admission.h"

namespace lategrad {

struct Welcome {
    std::string config;           ///< the run's options, as in config.toml
    std::vector<std::byte> model; ///< the TorchScript file, where --model is one
};

/// Payload of the message: 8 bytes with the length of config, config, model.
std::vector<std::byte> to_bytes(const Welcome& welcome);
/// Throws InputError where a server sent something else.
Welcome parse_welcome(std::span<const std::byte> bytes);

Welcome welcome_of(const Problem& problem);

/// What a worker's problem must have in common with the server's.
Traits traits_of(const Problem& problem);

/// This machine's; "localhost" where it does not say.
std::string host_name();
/// Of a run, or of a process that works for one: no other has it.
std::uint64_t random_name();

/// A folder of this process's own, which goes with it.
class ScratchFolder {
  public:
    ScratchFolder();
    ~ScratchFolder();
    ScratchFolder(const ScratchFolder&) = delete;
    ScratchFolder& operator=(const ScratchFolder&) = delete;
    const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
};

/// The options in a welcome; a TorchScript file is put into `scratch`. Throws InputError.
RunOptions options_of(const Welcome& welcome, const std::filesystem::path& scratch);

} // namespace lategrad
