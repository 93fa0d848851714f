#include "cli/checkpointer.h"

#include <exception>
#include <utility>

#include <spdlog/spdlog.h>

#include "lategrad/core/error.h"
#include "lategrad/torch/weights.h"

namespace lategrad {

Checkpointer::Checkpointer(const Problem& problem, CheckpointSummary::Kind kind, const std::filesystem::path& folder,
                           std::string config_toml, std::function<void()> before)
    : problem_(problem),
      kind_(kind),
      folder_(folder, problem.job.options.keep),
      config_toml_(std::move(config_toml)),
      before_(std::move(before)),
      thread_([this] { loop(); }) {}

Checkpointer::~Checkpointer() {
    finish();
}

void Checkpointer::submit(CheckpointDue&& due) {
    {
        const std::lock_guard lock(mutex_);
        waiting_ = std::move(due);
    }
    changed_.notify_all();
}

void Checkpointer::wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !waiting_ && !writing_; });
}

void Checkpointer::finish() {
    {
        const std::lock_guard lock(mutex_);
        finishing_ = true;
    }
    changed_.notify_one();
    if (thread_.joinable()) thread_.join();
}

void Checkpointer::loop() {
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [this] { return finishing_ || waiting_; });
        if (!waiting_) return;
        std::optional<CheckpointDue> due = std::exchange(waiting_, std::nullopt);
        writing_ = true;
        lock.unlock();
        try {
            write(*due);
        } catch (const std::exception& error) {
            if (!std::exchange(warned_, true)) {
                spdlog::warn("no checkpoint: {}; the run goes on, and the last good one is kept", error.what());
            }
        }
        due.reset(); // lets go of its buffers
        lock.lock();
        writing_ = false;
        changed_.notify_all();
    }
}

void Checkpointer::write(CheckpointDue& due) {
    before_();
    CheckpointContents contents{.summary = {.kind = kind_,
                                            .version = due.version,
                                            .seconds = seconds(due.at),
                                            .events = due.events,
                                            .examples_applied = due.examples_applied,
                                            .data_coverage = due.data_coverage,
                                            .incarnation = due.incarnation,
                                            .ledger = std::move(due.ledger)},
                                .config_toml = config_toml_,
                                .weights = {},
                                .parameters = std::move(due.params),
                                .state = std::move(due.state)};
    if (problem_.model) {
        contents.weights = weight_views(*problem_.model, std::as_const(contents.parameters).floats());
    }
    folder_.save(contents);
    warned_ = false;
}

} // namespace lategrad
