#include "cli/recorder.h"

#include <cstdio>
#include <exception>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "cli/config.h"
#include "lategrad/codec/codec.h"
#include "lategrad/core/error.h"
#include "lategrad/files/file.h"
#include "lategrad/torch/weights.h"
#include "lategrad/transport/clock.h"

namespace lategrad {

Recorder::Recorder(const Problem& problem, const std::filesystem::path& path, const RecorderOptions& options)
    : problem_(problem),
      events_(options.events),
      resume_(options.resume),
      config_toml_(to_toml(problem.job.options) + options.own_config),
      builder_({.policy = problem.job.options.policy,
                .workers = static_cast<std::uint32_t>(problem.job.options.workers),
                .wait_for = static_cast<std::uint32_t>(problem.job.policy.wait_for),
                .model = options.model.value_or(problem.job.options.model),
                .data = problem.data.name,
                .transport = options.transport,
                .codec = problem.job.options.codec,
                .publish_codec = problem.job.options.publish_codec}),
      folder_(resume_ ? RunFolder::resume(path, config_toml_, resume_->summary().events,
                                          [this](const RunEvent& event) {
                                              builder_.tell(event);
                                              trace_.tell(event);
                                          })
                      : RunFolder::create(path, config_toml_, run_fingerprint(problem),
                                          problem.model ? problem.model->size() * sizeof(float) : 0)) {
    const Job& job = problem.job;
    if (resume_ && !options.simulation) incarnation_ = folder_.begin_incarnation(resume_->summary().incarnation);
    if (job.checkpoints && events_ && (problem.model || options.simulation)) {
        simulation_ = options.simulation;
        const auto kind = simulation_ ? CheckpointSummary::Kind::simulation : CheckpointSummary::Kind::server;
        checkpointer_ = std::make_unique<Checkpointer>(problem, kind, folder_.checkpoints(), config_toml_,
                                                       [events = folder_.events()] { sync_file(events); });
    }
    if (options.progress) {
        progress_.emplace(stderr, is_terminal(stderr),
                          ProgressGoal{.updates = job.options.updates,
                                       .epochs = job.options.epochs,
                                       .epoch_examples = problem.epoch_examples(),
                                       .time_limit = job.time_limit,
                                       .target_accuracy = job.options.target_accuracy,
                                       .eval_every = job.options.eval_every},
                          [clock = SteadyClock()] { return clock.now(); });
    }
}

namespace {

/// What may differ when a run goes on: where it ends, how it is watched, where things are. Data that are elsewhere are
/// compared themselves.
constexpr std::string_view kFreeOptions[] = {
    "updates",       "epochs",     "time-limit",     "target-accuracy", "eval-every",       "heartbeat",
    "suspect-after", "dead-after", "overdue-after",  "reject-norm",     "quarantine-after", "checkpoint-every",
    "keep",          "threads",    "data",           "data-dir",        "listen",           "keys",
    "min-workers",   "log",        "reassign-after", "insecure"};

void require_same_run(const Problem& problem, const std::string& own_config, const Checkpoint& checkpoint) {
    const RunOptions& options = problem.job.options;
    const std::string changed = changed_options(checkpoint.config_toml(), to_toml(options) + own_config, kFreeOptions);
    if (!changed.empty()) {
        throw InputError(
            fmt::format("--resume {}: {}; what decides a run's updates stays as it was", options.resume, changed));
    }
    const auto before = read_fingerprint(options.resume), now = run_fingerprint(problem);
    for (const char* name : {"model", "training data"}) {
        const auto was = before.find(name), is = now.find(name);
        if (was == before.end() || is == now.end() || was->second == is->second) continue;
        throw InputError(fmt::format("--resume {}: {}: {} when the run began, {} now; it cannot go on with another one",
                                     options.resume, name, was->second, is->second));
    }
}

} // namespace

std::optional<Checkpoint> checkpoint_to_resume(const Problem& problem, const std::string& own_config,
                                               CheckpointSummary::Kind kind) {
    const RunOptions& options = problem.job.options;
    if (options.resume.empty()) return std::nullopt;
    require_run_folder(options.resume);
    Checkpoint checkpoint = open_newest(RunFolder::checkpoints_of(options.resume),
                                        [](const std::string& what) { spdlog::warn("--resume: {}", what); });
    if (checkpoint.summary().kind != kind) {
        throw InputError(fmt::format("--resume {}: its checkpoints are those of a {}; resume it by the command that "
                                     "made it",
                                     options.resume, to_string(checkpoint.summary().kind)));
    }
    require_same_run(problem, own_config, checkpoint);
    return checkpoint;
}

RunHooks Recorder::hooks() {
    RunHooks hooks{.tell =
                       [this](const RunEvent& event) {
                           builder_.tell(event);
                           if (events_) {
                               folder_.tell(event);
                               trace_.tell(event);
                           }
                           if (progress_) progress_->tell(event);
                       },
                   .resume = resume_,
                   .incarnation = incarnation_};
    if (checkpointer_) {
        hooks.checkpoint = [this](CheckpointDue&& due) {
            folder_.flush_events();
            if (!folder_.damaged()) checkpointer_->submit(std::move(due)); // else it would know of events that are lost
            if (simulation_) checkpointer_->wait();
        };
    }
    return hooks;
}

const Summary& Recorder::finish(const Trained& trained) {
    if (progress_) progress_->finish();
    if (checkpointer_) checkpointer_->finish();
    summary_ = builder_.summary();
    // Two accounts of every gradient, the server's ledger and the events it told, must come to the same.
    CHECK(summary_.pushed == trained.ledger.pushed && summary_.applied == trained.ledger.applied);
    CHECK(summary_.dropped == trained.ledger.dropped && summary_.lost == trained.ledger.lost);
    CHECK(summary_.held == trained.ledger.held);
    summary_.stray = trained.ledger.stray;
    summary_.data_coverage = trained.data_coverage;
    summary_.seconds = trained.seconds;
    summary_.bytes_received = trained.bytes_received;
    summary_.bytes_sent = trained.bytes_sent;
    summary_.outcome = trained.outcome;
    summary_.server_load = trained.server_load;
    summary_.faults = trained.faults;
    std::exception_ptr failure;
    try {
        if (problem_.model) save_weights(folder_.weights(), *problem_.model, trained.parameters, trained.version);
    } catch (const EnvironmentError&) {
        failure = std::current_exception(); // a full disk may have room for the summary, which says how the run ended
    }
    folder_.finish(summary_);
    if (failure) std::rethrow_exception(failure);
    if (events_) trace_.write(folder_.trace());
    return summary_;
}

int run_recorded(const Problem& problem, const RecorderOptions& options, Signals& signals,
                 const std::function<Trained(const RunHooks&)>& train) {
    const RunOptions& o = problem.job.options;
    const std::filesystem::path path = o.out.empty()
                                           ? new_run_path(problem.model ? o.model : options.transport, o.policy)
                                           : std::filesystem::path(o.out);
    Recorder recorder(problem, path, options);
    RunHooks hooks = recorder.hooks();
    hooks.stop_with = [&](std::function<void()> stop) { signals.on_first(std::move(stop)); };
    const Trained trained = train(hooks);
    const Summary& summary = recorder.finish(trained);
    if (o.json) fmt::print("{}\n", to_json(summary));
    else if (!o.quiet) fmt::print("{}", human_summary(summary, recorder.path()));
    if (trained.outcome == Outcome::diverged) {
        const bool exact = make_codec(o.codec, {.elements = 1})->exact();
        spdlog::error(
            "the run diverged: one gradient after the other {}; try a smaller --lr{}, or see by lategrad inspect "
            "whether they all came from one worker",
            exact ? "held a NaN or an infinity, or arrived damaged"
                  : fmt::format("held a NaN, an infinity or what --codec {} cannot hold, or arrived damaged", o.codec),
            exact ? "" : " or another --codec");
    }
    if (recorder.damaged())
        spdlog::warn("{}: its events are not all recorded; it cannot be replayed", recorder.path().string());
    if (trained.outcome == Outcome::no_workers) spdlog::error("the run ended early: no worker was left");
    if (trained.failure) std::rethrow_exception(trained.failure);
    return reached_end(trained.outcome) ? 0 : 1;
}

} // namespace lategrad
