/// From a problem to the welcome of a worker, and back.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "cli/elastic/welcome_bytes.h"
#include "cli/training.h"
#include "lategrad/server/admission.h"

namespace lategrad {

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

/// The options in a welcome, by way of a file in `scratch`. Throws InputError.
RunOptions options_of(const Welcome& welcome, const std::filesystem::path& scratch);
/// Puts the TorchScript file that came along, if one did, into `scratch`, where `options` then have it.
void take_model(const Welcome& welcome, const std::filesystem::path& scratch, RunOptions& options);

} // namespace lategrad
