/// What is kept and shown of a run: its folder, its progress, its summary.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "cli/checkpointer.h"
#include "cli/signals.h"
#include "cli/training.h"
#include "lategrad/telemetry/progress.h"
#include "lategrad/telemetry/run_folder.h"
#include "lategrad/telemetry/summary.h"
#include "lategrad/telemetry/trace.h"

namespace lategrad {

struct RecorderOptions {
    std::string transport; ///< for the summary
    bool progress = true;
    bool events = true;               ///< false: only the summary; events.jsonl and trace.json stay empty
    std::optional<std::string> model; ///< for the summary; default the run's
    std::string own_config;           ///< TOML of the command's own options, behind those of the run
    const Checkpoint* resume = nullptr;
    bool simulation = false; ///< checkpoints are all of it, and written at once
};

/// The newest whole checkpoint of the run that --resume names, if it names one. Damaged ones are warned of. Throws
/// InputError where it is of another kind of run, or what decides the run's updates is not as it was: options, those of
/// `own_config` too, initial parameters, data. Nothing has been changed by then.
std::optional<Checkpoint> checkpoint_to_resume(const Problem& problem, const std::string& own_config,
                                               CheckpointSummary::Kind kind = CheckpointSummary::Kind::server);

class Recorder {
  public:
    /// Opens the run folder at `path`. Throws InputError where it cannot hold a run.
    Recorder(const Problem& problem, const std::filesystem::path& path, const RecorderOptions& options);

    /// Hooks that record; the caller adds what else it wants. The recorder outlives the run.
    RunHooks hooks();

    /// The run has ended: weights, timeline and summary go to the folder. Throws EnvironmentError where they cannot.
    const Summary& finish(const Trained& trained);

    const std::filesystem::path& path() const { return folder_.path(); }
    /// True where not every event could be written: the run cannot be replayed.
    bool damaged() const { return folder_.damaged(); }

  private:
    const Problem& problem_;
    bool events_;
    const Checkpoint* resume_;
    std::string config_toml_;
    SummaryBuilder builder_;
    TraceBuilder trace_;
    RunFolder folder_; ///< that of a resumed run tells the two what it holds
    Summary summary_;
    std::optional<Progress> progress_;
    bool simulation_ = false;
    Incarnation incarnation_;
    std::unique_ptr<Checkpointer> checkpointer_; ///< where checkpoints are wanted
};

/// A whole recorded run: `train` carries it out with the recorder's hooks, to which Ctrl-C is added; then it is shown
/// as the run's options say. Returns the exit status.
int run_recorded(const Problem& problem, const RecorderOptions& options, Signals& signals,
                 const std::function<Trained(const RunHooks&)>& train);

} // namespace lategrad
