/// The options that train, compare, evaluate and replay share: read once, from the command line and from TOML,
/// validated once, and written back whole to the run folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lategrad/data/dataset.h"
#include "lategrad/data/partition.h"
#include "lategrad/optim/optimizer.h"
#include "lategrad/optim/schedule.h"
#include "lategrad/policy/policy.h"
#include "lategrad/server/silence.h"
#include "lategrad/torch/curvature.h"
#include "lategrad/torch/model.h"
#include "lategrad/worker/compute_time.h"
#include "lategrad/worker/straggle.h"

namespace CLI {
class App;
class Option;
} // namespace CLI

namespace lategrad {

/// More intra-op threads than any machine has use for; libtorch would start as many as it is told to.
inline constexpr int kThreadsMax = 1024;

/// As the user gave them; defaults where not. Every field is an option of the same name, with dashes.
struct RunOptions {
    std::string model = "lenet";
    std::string data; ///< empty: the folder in data_dir, or fashion-mnist where that is empty too
    std::string data_dir;
    std::string partition = "iid";
    std::size_t workers = 4;
    std::size_t wait_for = 0; ///< 0: three quarters of the workers, rounded up
    bool cancel_late = false;
    std::string policy = "reuse";
    std::string late_weight = "one";
    std::string curvature; ///< A,B; empty: estimated where late_weight is certified
    std::string normalize; ///< empty: the policy's own
    std::optional<std::uint64_t> staleness_max;
    std::size_t batch_size = 256;
    std::string optimizer = "sgd";
    double lr = 0.05;
    double momentum = 0;
    bool nesterov = false;
    double weight_decay = 0;
    std::string lr_schedule = "constant";
    std::string codec = "none";
    std::string publish_codec = "none";
    std::string straggle = "none";
    std::uint64_t seed = 1;
    std::optional<std::uint64_t> updates;
    std::optional<double> epochs;
    std::string time_limit;
    std::optional<double> target_accuracy;
    std::uint64_t eval_every = 0; ///< updates; 0: once in an epoch's worth of examples
    // Of workers that are processes of their own; each empty one adapts (SilenceOptions).
    std::string heartbeat = "250ms";
    std::string suspect_after;
    std::string dead_after = "30s";
    std::string overdue_after;
    double reject_norm = 100;
    std::uint64_t quarantine_after = 10;
    int threads = 1; ///< of libtorch, per worker
    std::string device = "cpu";

    // Found, not given: a comment in the run's config.toml.
    std::string curvature_estimate;

    std::string checkpoint_every = "60s"; ///< a time, or a number of updates; 0: none
    std::uint64_t keep = 3;               ///< checkpoints

    // Of one command, not of the run: not written to its folder.
    std::string out;
    std::string resume;
    bool quiet = false;
    bool json = false;
};

/// A list of codecs that was split at its commas: the one inside `dgc:R,CLIP` belongs to it.
std::vector<std::string> codec_list(const std::vector<std::string>& items);

/// Declares them on a command.
void add_run_options(CLI::App& command, RunOptions& options);

/// How gradients are computed, where they can also be left out; an option each.
struct ComputeOptions {
    std::string gradients = "real";
    std::string compute;
    std::string compute_per_example;

    /// Throws InputError naming `--gradients`.
    bool real() const;
    /// Throws InputError naming the option. Where none is given: 20 ms per batch.
    ComputeTime time() const;
    /// What is not at its default, as a table of config.toml that only `command` reads; empty where all are.
    std::string toml(std::string_view command) const;
};
/// Declares them on a command; `none` says what `--gradients none` means there.
void add_compute_options(CLI::App& command, ComputeOptions& options, const std::string& none);

/// All options, resolved, as TOML that `--config` reads back.
std::string to_toml(const RunOptions& options);

/// The options of config.toml in a run folder. Throws InputError naming the file.
RunOptions options_from_toml(const std::filesystem::path& file);

/// Names the data where only a folder, or nothing, is given, and makes paths absolute, so that a run folder can be read
/// from anywhere.
void settle_paths(RunOptions& options);

/// PREFIX:FILE with FILE made absolute, for the same reason; anything else as it is.
std::string settle_path(const std::string& spec, std::string_view prefix);

/// What the options mean: parsed, checked against each other.
struct Job {
    RunOptions options; ///< with what was left open filled in
    ModelSpec model;
    DataOptions data;
    Partition partition;
    PolicyOptions policy;
    std::optional<HessianBounds> curvature; ///< where given
    OptimizerOptions optimizer;
    double codec_momentum = 0; ///< where the codec has it in place of the optimizer
    Schedule schedule;
    StraggleModel straggle;
    std::optional<Duration> time_limit;
    SilenceOptions silence;
    bool checkpoints = true;
    std::uint64_t checkpoint_updates = 0; ///< between two; 0: by time
    Duration checkpoint_time{0};
};

/// Throws InputError naming the option, what is wrong with it and what would be right.
Job resolve(const RunOptions& options);

} // namespace lategrad
