/// From a problem to the welcome of a worker, and back.
#pragma once

#include <filesystem>

#include "cli/elastic/welcome_bytes.h"
#include "cli/training.h"
#include "lategrad/server/admission.h"

namespace lategrad {

Welcome welcome_of(const Problem& problem);

/// What a worker's problem must have in common with the server's.
Traits traits_of(const Problem& problem);

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
