#include "cli/recorder.h"

#include <exception>

#include "lategrad/core/error.h"
#include "lategrad/torch/weights.h"

namespace lategrad {

Recorder::Recorder(const Problem& problem, const std::filesystem::path& path, std::string transport, bool show_progress)
    : problem_(problem),
      folder_(RunFolder::create(path, to_toml(problem.job.options), run_fingerprint(problem),
                                problem.model->size() * sizeof(float))),
      builder_({.policy = problem.job.options.policy,
                .workers = static_cast<std::uint32_t>(problem.job.options.workers),
                .wait_for = static_cast<std::uint32_t>(problem.job.policy.wait_for),
                .model = problem.job.options.model,
                .data = problem.data.name,
                .transport = std::move(transport),
                .codec = problem.job.options.codec}) {
    const Job& job = problem.job;
    if (show_progress) {
        progress_.emplace(stderr, is_terminal(stderr),
                          ProgressGoal{.updates = job.options.updates,
                                       .epochs = job.options.epochs,
                                       .epoch_examples = problem.data.train->size(),
                                       .time_limit = job.time_limit,
                                       .target_accuracy = job.options.target_accuracy,
                                       .eval_every = job.options.eval_every});
    }
}

RunHooks Recorder::hooks() {
    return {.tell = [this](const RunEvent& event) {
        folder_.tell(event);
        builder_.tell(event);
        trace_.tell(event);
        if (progress_) progress_->tell(event);
    }};
}

const Summary& Recorder::finish(const Trained& trained) {
    if (progress_) progress_->finish();
    summary_ = builder_.summary();
    // Two accounts of every gradient, the server's ledger and the events it told, must come to the same.
    CHECK(summary_.pushed == trained.ledger.pushed && summary_.applied == trained.ledger.applied);
    CHECK(summary_.dropped == trained.ledger.dropped && summary_.lost == trained.ledger.lost);
    CHECK(summary_.held == trained.ledger.held);
    summary_.stray = trained.ledger.stray;
    summary_.seconds = trained.seconds;
    summary_.bytes_received = trained.bytes_received;
    summary_.bytes_sent = trained.bytes_sent;
    summary_.outcome = trained.outcome;
    std::exception_ptr failure;
    try {
        save_weights(folder_.weights(), *problem_.model, trained.parameters, trained.version);
    } catch (const EnvironmentError&) {
        failure = std::current_exception(); // a full disk may have room for the summary, which says how the run ended
    }
    folder_.finish(summary_);
    if (failure) std::rethrow_exception(failure);
    trace_.write(folder_.trace());
    return summary_;
}

} // namespace lategrad
