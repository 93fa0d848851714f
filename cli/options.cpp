#include "cli/options.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/config.h"
#include "lategrad/codec/codec.h"
#include "lategrad/codec/publish.h"
#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"
#include "lategrad/core/quantity.h"

namespace lategrad {
namespace {

void require(bool good, std::string message) {
    if (!good) throw InputError(std::move(message));
}

/// Where 0 stands for "not given" inside.
CLI::Validator one_or_more() {
    return {[](const std::string& text) {
                return parse_number<std::int64_t>(text) == 0 ? text + ": expected 1 or more" : "";
            },
            ""};
}

HessianBounds parse_curvature(const std::string& text) {
    const auto fields = split(text, ',');
    const auto a = parse_number<double>(fields.front()), b = parse_number<double>(fields.back());
    require(fields.size() == 2 && a && b && *a > 0 && *a <= *b,
            fmt::format("--curvature {}: expected A,B, the bounds of the Hessian's eigenvalues, 0 < A <= B", text));
    return {.min = *a, .max = *b};
}

/// What the condition behind `--late-weight certified` asks of the other options.
void resolve_certified(Job& job) {
    const RunOptions& o = job.options;
    if (!job.policy.late_weight.certified()) {
        require(o.curvature.empty(), fmt::format("--curvature {}: only for --late-weight certified", o.curvature));
        return;
    }
    constexpr const char* kPlain = "--late-weight certified holds for plain sgd alone";
    require(o.optimizer == "sgd", fmt::format("--optimizer {}: {}", o.optimizer, kPlain));
    require(o.momentum == 0, fmt::format("--momentum {}: {}; set it to 0", o.momentum, kPlain));
    require(!job.schedule.exceeds_base(),
            fmt::format("--lr-schedule {}: rises above --lr, which --late-weight certified bounds", o.lr_schedule));
    constexpr const char* kExact =
        "--late-weight certified holds for gradients and parameters as they are; take one that "
        "keeps every bit: none, lz4, zstd or blosc";
    require(make_codec(o.codec, {.elements = 1})->exact(), fmt::format("--codec {}: {}", o.codec, kExact));
    require(PublishCodec(o.publish_codec, {.elements = 1}).exact(),
            fmt::format("--publish-codec {}: {}", o.publish_codec, kExact));
    if (o.curvature.empty()) return;
    job.curvature = parse_curvature(o.curvature);
    require(o.lr <= 1 / job.curvature->max,
            fmt::format("--lr {}: --late-weight certified needs at most 1/B, which is {:.4g} for --curvature {}", o.lr,
                        1 / job.curvature->max, o.curvature));
    job.policy.late_weight.certify(job.curvature->min, job.curvature->max);
}

SilenceOptions resolve_silence(const RunOptions& o) {
    const auto above_0 = [](const std::string& text, const char* option) {
        const Duration time = parse_duration(text, option);
        require(time > Duration::zero(), fmt::format("{} {}: expected more than 0", option, text));
        return time;
    };
    SilenceOptions silence{.heartbeat = above_0(o.heartbeat, "--heartbeat"),
                           .dead_after = above_0(o.dead_after, "--dead-after")};
    if (!o.suspect_after.empty()) silence.suspect_after = above_0(o.suspect_after, "--suspect-after");
    if (!o.overdue_after.empty()) silence.overdue_after = above_0(o.overdue_after, "--overdue-after");
    require(silence.heartbeat * 2 <= silence.dead_after,
            fmt::format("--dead-after {}: at least two heartbeats ({}) must fit", o.dead_after, o.heartbeat));
    if (silence.suspect_after) {
        require(silence.heartbeat < *silence.suspect_after,
                fmt::format("--suspect-after {}: not longer than --heartbeat {}", o.suspect_after, o.heartbeat));
        require(*silence.suspect_after < silence.dead_after,
                fmt::format("--suspect-after {}: not shorter than --dead-after {}", o.suspect_after, o.dead_after));
    }
    return silence;
}

} // namespace

std::vector<std::string> codec_list(const std::vector<std::string>& items) {
    std::vector<std::string> codecs;
    for (const std::string& item : items) {
        const bool open = !codecs.empty() && codecs.back().starts_with("dgc:") &&
                          codecs.back().find_first_of(",+") == std::string::npos;
        if (open && parse_number<double>(std::string_view(item).substr(0, item.find('+')))) codecs.back() += "," + item;
        else codecs.push_back(item);
    }
    return codecs;
}

void add_run_options(CLI::App& command, RunOptions& o) {
    const auto add = [&](const char* group, const char* name, auto& value, const std::string& help) {
        using T = std::remove_reference_t<decltype(value)>;
        CLI::Option* option = command.add_option(name, value, help)
                                  ->group(group)
                                  ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
                                  ->capture_default_str();
        constexpr bool counts = std::is_integral_v<T> || std::is_same_v<T, std::optional<std::uint64_t>>;
        constexpr bool measures = std::is_same_v<T, double> || std::is_same_v<T, std::optional<double>>;
        if constexpr (counts) take_whole_numbers(*option);
        else if constexpr (measures) take_numbers(*option);
        return option;
    };
    const auto flag = [&](const char* group, const char* name, bool& value, const char* help) {
        command.add_flag(name, value, help)->group(group);
    };
    constexpr const char* kProblem = "Problem";
    add(kProblem, "--model", o.model, "lenet, mlp, mlp:H1,H2,..., logistic, ridge[:ETA], or a TorchScript file NET.pt")
        ->type_name("MODEL");
    add(kProblem, "--data", o.data,
        "fashion-mnist, mnist, mnist-t10k, a FOLDER of IDX files, or ARRAYS.safetensors with x, y (x_test, y_test); "
        "default the folder in --data-dir, else fashion-mnist")
        ->type_name("DATA")
        ->default_str("");
    add(kProblem, "--data-dir", o.data_dir, "where the IDX files of --data are, gzipped or not")->type_name("DIR");
    add(kProblem, "--partition", o.partition,
        "who holds which examples: iid, contiguous, label, dirichlet:A, or shared (everybody all)")
        ->type_name("HOW");
    add(kProblem, "--batch-size", o.batch_size,
        "global; each of n workers takes 1/n, or its share of the data where parts are uneven (dirichlet)")
        ->type_name("B");
    add(kProblem, "--seed", o.seed, "of everything random in the run");

    constexpr const char* kPolicy = "Who is waited for";
    add(kPolicy, "--workers", o.workers,
        "threads here; under mpirun, all ranks but the server's; with serve, the parts of the data")
        ->type_name("N");
    add(kPolicy, "--wait-for", o.wait_for,
        "k, for backup, reuse, kasync and kbatch: an update waits for the k fastest; default three quarters of the "
        "workers")
        ->type_name("K")
        ->default_str("")
        ->check(one_or_more());
    add(kPolicy, "--policy", o.policy, "sync, backup, reuse, kasync, kbatch, async or ssp:BOUND (docs/policies.md)")
        ->type_name("POLICY");
    add(kPolicy, "--late-weight", o.late_weight, "one, inverse, sqrt, exp:BETA, span or certified")
        ->type_name("WEIGHT");
    add(kPolicy, "--curvature", o.curvature,
        "for certified: bounds on the eigenvalues of the mean loss's Hessian, weight decay included; default an "
        "estimate at the initial parameters")
        ->type_name("A,B");
    add(kPolicy, "--normalize", o.normalize,
        "divide by the batches of: workers, quorum or weights; default the policy's")
        ->type_name("WHAT");
    add(kPolicy, "--staleness-max", o.staleness_max, "drop gradients that are staler")->type_name("UPDATES");
    flag(kPolicy, "--cancel-late", o.cancel_late, "backup: late workers give up their gradient at each update");
    add(kPolicy, "--straggle", o.straggle,
        "inject stragglers: none, exp:MEAN, shifted-exp:SHIFT,MEAN, pareto:SHAPE,SCALE, slow:COUNT,FACTOR, "
        "bimodal:PROBABILITY,FACTOR, trace:FILE.csv; times as 20ms")
        ->type_name("SPEC");

    constexpr const char* kOptimizer = "Optimizer";
    add(kOptimizer, "--optimizer", o.optimizer, "sgd, adam or adamw, on the server");
    add(kOptimizer, "--lr", o.lr, "learning rate");
    add(kOptimizer, "--momentum", o.momentum, "sgd");
    flag(kOptimizer, "--nesterov", o.nesterov, "sgd: Nesterov's momentum");
    add(kOptimizer, "--weight-decay", o.weight_decay, "L2 (sgd, adam), decoupled (adamw)");
    add(kOptimizer, "--lr-schedule", o.lr_schedule,
        "constant, step:EPOCHS,FACTOR or cosine[:FINAL], each with +warmup:EPOCHS; epochs of applied examples")
        ->type_name("SCHEDULE");

    constexpr const char* kCompression = "Compression (docs/codecs.md)";
    add(kCompression, "--codec", o.codec, fmt::format("of gradients: {}", codec_forms()))->type_name("CODEC");
    add(kCompression, "--publish-codec", o.publish_codec, fmt::format("of parameters: {}", PublishCodec::forms()))
        ->type_name("CODEC");

    constexpr const char* kEnd = "When it ends (the first of these; default --epochs 5)";
    add(kEnd, "--updates", o.updates, "versions")->type_name("N");
    add(kEnd, "--epochs", o.epochs, "applied examples over training examples")->type_name("E");
    add(kEnd, "--time-limit", o.time_limit, "seconds, or with a unit: 90, 1.5m")->type_name("TIME");
    add(kEnd, "--target-accuracy", o.target_accuracy, "on the test part, 0 to 1")->type_name("A");

    constexpr const char* kFailures = "Workers that fail (docs/reliability.md)";
    add(kFailures, "--heartbeat", o.heartbeat, "how often worker processes and the server say that they live")
        ->type_name("TIME");
    add(kFailures, "--suspect-after", o.suspect_after,
        "silence after which nobody waits for a worker; default a second, or as long as its steps take, up to 10 s")
        ->type_name("TIME")
        ->default_str("");
    add(kFailures, "--dead-after", o.dead_after, "silence after which a worker is given up, and its gradient is lost")
        ->type_name("TIME");
    add(kFailures, "--overdue-after", o.overdue_after,
        "how long a gradient may take before nobody waits for it; default 20 times as long as usual, a minute at least")
        ->type_name("TIME")
        ->default_str("");
    add(kFailures, "--reject-norm", o.reject_norm,
        "drop gradients longer than so many times the running median; 0: none are")
        ->type_name("FACTOR");
    add(kFailures, "--quarantine-after", o.quarantine_after,
        "exclude a worker after so many gradients that could not be used; 0: never")
        ->type_name("GRADIENTS");

    constexpr const char* kRun = "Run";
    add(kRun, "--eval-every", o.eval_every,
        "updates between evaluations; default about once an epoch, and five times in a run with less of them")
        ->type_name("UPDATES");
    add(kRun, "--threads", o.threads, "libtorch's intra-op threads per worker");
    add(kRun, "--device", o.device, "cpu");
    add(kRun, "--checkpoint-every", o.checkpoint_every,
        "a time or a number of updates between two checkpoints, from which --resume goes on; 0: none")
        ->type_name("TIME|UPDATES");
    add(kRun, "--keep", o.keep, "how many checkpoints are kept; 0: all")->type_name("N");
    add(kRun, "--resume", o.resume,
        "go on with the run in this folder from its last checkpoint; its options hold, "
        "and those on the command line win")
        ->type_name("RUN");
    add(kRun, "--out", o.out, "run folder; default runs/TIME-MODEL-POLICY")->type_name("DIR");
    flag(kRun, "--quiet", o.quiet, "no progress, and no summary but --json");
    flag(kRun, "--json", o.json, "the summary as JSON, as the last thing on standard output");
    command.add_option("--config", "read options from a TOML file or a run folder; those on the command line win")
        ->group(kRun)
        ->type_name("FILE.toml");
}

void add_compute_options(CLI::App& command, ComputeOptions& o, const std::string& none) {
    const auto add = [&](const char* name, std::string& value, const std::string& help, const char* type) {
        command.add_option(name, value, help)
            ->group("Computation")
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
            ->type_name(type)
            ->capture_default_str();
    };
    add("--gradients", o.gradients, "real, or " + none, "WHAT");
    add("--compute", o.compute, "how long a batch takes; default 20ms, or nothing beside --compute-per-example",
        "TIME");
    add("--compute-per-example", o.compute_per_example, "how much longer each of its examples makes it", "TIME");
}

bool ComputeOptions::real() const {
    require(gradients == "real" || gradients == "none",
            fmt::format("--gradients {}: expected real or none", gradients));
    return gradients == "real";
}

ComputeTime ComputeOptions::time() const {
    if (compute.empty() && compute_per_example.empty()) return {.per_batch = std::chrono::milliseconds(20)};
    ComputeTime time;
    if (!compute.empty()) time.per_batch = parse_duration(compute, "--compute");
    if (!compute_per_example.empty()) time.per_example = parse_duration(compute_per_example, "--compute-per-example");
    return time;
}

std::string ComputeOptions::toml(std::string_view command) const {
    std::string lines;
    if (gradients != "real") lines += toml_line("gradients", gradients);
    if (!compute.empty()) lines += toml_line("compute", compute);
    if (!compute_per_example.empty()) lines += toml_line("compute-per-example", compute_per_example);
    return lines.empty() ? "" : fmt::format("\n[{}]\n{}", command, lines);
}

std::string to_toml(const RunOptions& o) {
    std::string out =
        "# The options of this run, resolved; those left out are at their defaults. Its command runs it again by\n"
        "# --config THIS_FILE; a table holds what only the command of its name reads.\n";
    const auto text = [&](const char* key, const std::string& value) { out += toml_line(key, value); };
    const auto plain = [&](const char* key, const auto& value) { out += fmt::format("{} = {}\n", key, value); };
    text("model", o.model);
    text("data", o.data);
    if (!o.data_dir.empty()) text("data-dir", o.data_dir);
    text("partition", o.partition);
    plain("batch-size", o.batch_size);
    plain("seed", o.seed);
    plain("workers", o.workers);
    plain("wait-for", o.wait_for);
    text("policy", o.policy);
    text("late-weight", o.late_weight);
    if (!o.curvature.empty()) text("curvature", o.curvature);
    if (!o.curvature_estimate.empty())
        out += fmt::format("# curvature, not given, was estimated as {}; a rerun estimates it again\n",
                           o.curvature_estimate);
    if (!o.normalize.empty()) text("normalize", o.normalize);
    if (o.staleness_max) plain("staleness-max", *o.staleness_max);
    plain("cancel-late", o.cancel_late);
    text("straggle", o.straggle);
    text("optimizer", o.optimizer);
    plain("lr", o.lr);
    plain("momentum", o.momentum);
    plain("nesterov", o.nesterov);
    plain("weight-decay", o.weight_decay);
    text("lr-schedule", o.lr_schedule);
    text("codec", o.codec);
    text("publish-codec", o.publish_codec);
    if (o.updates) plain("updates", *o.updates);
    if (o.epochs) plain("epochs", *o.epochs);
    if (!o.time_limit.empty()) text("time-limit", o.time_limit);
    if (o.target_accuracy) plain("target-accuracy", *o.target_accuracy);
    plain("eval-every", o.eval_every);
    text("heartbeat", o.heartbeat);
    if (!o.suspect_after.empty()) text("suspect-after", o.suspect_after);
    text("dead-after", o.dead_after);
    if (!o.overdue_after.empty()) text("overdue-after", o.overdue_after);
    plain("reject-norm", o.reject_norm);
    plain("quarantine-after", o.quarantine_after);
    text("checkpoint-every", o.checkpoint_every);
    plain("keep", o.keep);
    plain("threads", o.threads);
    text("device", o.device);
    return out;
}

RunOptions options_from_toml(const std::filesystem::path& file) {
    RunOptions options;
    CLI::App command;
    add_run_options(command, options);
    auto arguments = expand_config(command, {"--config", file.string()});
    std::reverse(arguments.begin(), arguments.end()); // CLI11 takes them from the back
    try {
        command.parse(arguments);
    } catch (const CLI::ParseError& error) {
        throw InputError(fmt::format("{}: {}", file.string(), error.what()));
    }
    return options;
}

void settle_paths(RunOptions& o) {
    const auto absolute = [](const std::string& path) { return std::filesystem::absolute(path).string(); };
    std::error_code error;
    if (o.data.empty() && o.data_dir.empty()) {
        o.data = "fashion-mnist";
    } else if (o.data.empty()) {
        require(std::filesystem::is_directory(o.data_dir, error),
                fmt::format("--data-dir {}: there is no such folder", o.data_dir));
        o.data = std::exchange(o.data_dir, "");
    }
    if (is_named_data_set(o.data)) {
        if (!o.data_dir.empty()) o.data_dir = absolute(o.data_dir);
    } else {
        require(o.data_dir.empty(),
                fmt::format("--data-dir {}: goes with --data fashion-mnist, mnist or mnist-t10k, or alone; --data {} "
                            "names its file or folder itself",
                            o.data_dir, o.data));
        if (o.data.ends_with(".safetensors") || std::filesystem::is_directory(o.data, error)) o.data = absolute(o.data);
    }
    if (o.model.ends_with(".pt")) o.model = absolute(o.model);
    o.straggle = settle_path(o.straggle, "trace:");
}

std::string settle_path(const std::string& spec, std::string_view prefix) {
    if (!spec.starts_with(prefix) || spec.size() == prefix.size()) return spec;
    return std::string(prefix) + std::filesystem::absolute(spec.substr(prefix.size())).string();
}

Job resolve(const RunOptions& given) {
    Job job;
    job.options = given;
    RunOptions& o = job.options;
    settle_paths(o);

    require(o.workers >= 1, "--workers 0: at least one worker is needed");
    if (o.wait_for == 0) o.wait_for = (3 * o.workers + 3) / 4;
    require(o.wait_for <= o.workers,
            fmt::format("--wait-for {}: there are only {} workers (--workers)", o.wait_for, o.workers));
    require(
        o.batch_size >= o.workers,
        fmt::format("--batch-size {}: smaller than the {} workers, who take a share each", o.batch_size, o.workers));
    require(o.batch_size <= std::numeric_limits<std::uint32_t>::max(), "--batch-size: too large");
    require(o.lr > 0, fmt::format("--lr {}: expected a number above 0", o.lr));
    require(o.threads >= 1 && o.threads <= kThreadsMax,
            fmt::format("--threads {}: expected 1 to {}", o.threads, kThreadsMax));
    require(o.device == "cpu", fmt::format("--device {}: this version computes on cpu", o.device));
    require(!o.epochs || *o.epochs > 0, fmt::format("--epochs {}: expected a number above 0", o.epochs.value_or(0)));
    require(!o.updates || *o.updates > 0, "--updates 0: expected 1 or more");
    require(!o.target_accuracy || (*o.target_accuracy > 0 && *o.target_accuracy <= 1),
            fmt::format("--target-accuracy {}: expected a share above 0 and at most 1, as 0.85 for 85 %",
                        o.target_accuracy.value_or(0)));

    job.model = ModelSpec::parse(o.model);
    job.data = {.data = o.data, .data_dir = o.data_dir, .seed = o.seed};
    job.partition = Partition::parse(o.partition);
    job.policy.parse_kind(o.policy);
    job.policy.wait_for = job.policy.has_quorum() ? o.wait_for : job.policy.kind == "sync" ? o.workers : 1;
    job.policy.cancel_late = o.cancel_late;
    job.policy.late_weight = LateWeight::parse(o.late_weight);
    if (!o.normalize.empty()) job.policy.parse_normalize(o.normalize);
    job.policy.staleness_max = o.staleness_max;
    make_policy(job.policy); // for its checks
    job.optimizer = {
        .kind = o.optimizer, .momentum = o.momentum, .nesterov = o.nesterov, .weight_decay = o.weight_decay};
    make_optimizer(job.optimizer, 1);
    PublishCodec(o.publish_codec, {.elements = 1}); // for its checks
    if (make_codec(o.codec, {.elements = 1})->takes_momentum()) {
        require(!o.nesterov, fmt::format("--nesterov: --codec {} has the momentum, and knows no Nesterov's", o.codec));
        job.codec_momentum = std::exchange(job.optimizer.momentum, 0);
    }
    job.schedule = Schedule::parse(o.lr_schedule);
    resolve_certified(job);
    job.straggle = StraggleModel::parse(o.straggle, o.seed);
    require(job.straggle.workers_min() <= o.workers,
            fmt::format("--straggle {}: there are only {} workers (--workers)", o.straggle, o.workers));
    if (const auto missing = job.straggle.missing_in_trace(o.workers)) {
        throw InputError(
            fmt::format("--straggle {}: has no line for worker {}; each of the {} workers needs one, if only "
                        "of 0 seconds",
                        o.straggle, missing->value(), o.workers));
    }
    if (!o.time_limit.empty()) {
        job.time_limit = parse_duration(o.time_limit, "--time-limit", true);
        require(*job.time_limit > Duration::zero(), fmt::format("--time-limit {}: expected more than 0", o.time_limit));
    }
    job.silence = resolve_silence(o);
    if (const auto updates = parse_number<std::uint64_t>(o.checkpoint_every)) {
        job.checkpoints = *updates > 0;
        job.checkpoint_updates = *updates;
    } else {
        job.checkpoint_time = parse_duration(o.checkpoint_every, "--checkpoint-every");
        job.checkpoints = job.checkpoint_time > Duration::zero();
    }
    require(o.resume.empty() || o.out.empty() || o.out == o.resume,
            fmt::format("--out {}: a run that is resumed goes on in its own folder, {}", o.out, o.resume));
    if (!o.resume.empty()) o.out = o.resume;
    require(o.reject_norm == 0 || o.reject_norm > 1,
            fmt::format("--reject-norm {}: expected a number above 1, or 0 for no limit", o.reject_norm));
    require(o.quarantine_after <= std::numeric_limits<std::uint32_t>::max(), "--quarantine-after: too large");
    if (!o.updates && !o.epochs && !job.time_limit && !o.target_accuracy) o.epochs = 5;
    require(!job.schedule.needs_end() || o.updates || o.epochs,
            fmt::format("--lr-schedule {}: needs an end, --epochs or --updates", o.lr_schedule));
    return job;
}

} // namespace lategrad
