#include "lategrad/runtime/evaluation_thread.h"

#include <utility>

#include "lategrad/core/error.h"

namespace lategrad {

EvaluationThread::EvaluationThread(When when, std::size_t snapshots_max, Evaluate evaluate, Answer answer)
    : when_(when),
      snapshots_max_(snapshots_max),
      evaluate_(std::move(evaluate)),
      answer_(std::move(answer)),
      thread_([this] { loop(); }) {
    CHECK(snapshots_max >= 2);
}

EvaluationThread::~EvaluationThread() {
    {
        const std::lock_guard lock(mutex_);
        waiting_.clear();
        finishing_ = true;
    }
    changed_.notify_one();
}

void EvaluationThread::submit(const Snapshot& snapshot) {
    {
        const std::lock_guard lock(mutex_);
        if (when_ == When::beside) {
            waiting_.clear();
            waiting_.push_back(snapshot);
        } else {
            // The newest one always stays, so that the end of the run is among them.
            if (submitted_ > 0 && (submitted_ - 1) % keep_every_ != 0) waiting_.pop_back();
            waiting_.push_back(snapshot);
            ++submitted_;
            if (waiting_.size() > snapshots_max_) {
                std::vector<Snapshot> kept;
                for (std::size_t i = 0; i < waiting_.size(); i += 2) kept.push_back(std::move(waiting_[i]));
                if (waiting_.size() % 2 == 0) kept.push_back(std::move(waiting_.back()));
                waiting_ = std::move(kept);
                keep_every_ *= 2;
            }
        }
    }
    changed_.notify_one();
}

void EvaluationThread::finish(std::optional<Duration> within) {
    {
        std::unique_lock lock(mutex_);
        finishing_ = true;
        changed_.notify_all();
        if (within && !changed_.wait_for(lock, *within, [this] { return ended_; })) {
            given_up_ = true;
            waiting_.clear();
        }
    }
    if (thread_.joinable()) thread_.join();
    if (failure_) std::rethrow_exception(failure_);
}

void EvaluationThread::loop() {
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [this] { return finishing_ || (when_ == When::beside && !waiting_.empty()); });
        if (waiting_.empty()) {
            ended_ = true;
            changed_.notify_all();
            return;
        }
        const Snapshot snapshot = std::move(waiting_.front());
        waiting_.erase(waiting_.begin());
        lock.unlock();
        std::exception_ptr failure;
        try {
            if (const auto evaluation = evaluate_(snapshot)) answer_(*evaluation);
        } catch (...) {
            failure = std::current_exception();
        }
        lock.lock();
        if (failure) {
            failure_ = failure;
            waiting_.clear();
        }
    }
}

} // namespace lategrad
