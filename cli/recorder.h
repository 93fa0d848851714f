/// What is kept and shown of a run: its folder, its progress, its summary.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "cli/training.h"
#include "lategrad/telemetry/progress.h"
#include "lategrad/telemetry/run_folder.h"
#include "lategrad/telemetry/summary.h"
#include "lategrad/telemetry/trace.h"

namespace lategrad {

class Recorder {
  public:
    /// Opens the run folder at `path`. Throws InputError where it cannot hold a run. `transport`: for the summary.
    Recorder(const Problem& problem, const std::filesystem::path& path, std::string transport, bool show_progress);

    /// Hooks that record; the caller adds what else it wants. The recorder outlives the run.
    RunHooks hooks();

    /// The run has ended: weights, timeline and summary go to the folder. Throws EnvironmentError where they cannot.
    const Summary& finish(const Trained& trained);

    const std::filesystem::path& path() const { return folder_.path(); }
    /// True where not every event could be written: the run cannot be replayed.
    bool damaged() const { return folder_.damaged(); }

  private:
    const Problem& problem_;
    RunFolder folder_;
    SummaryBuilder builder_;
    TraceBuilder trace_;
    Summary summary_;
    std::optional<Progress> progress_;
};

} // namespace lategrad
