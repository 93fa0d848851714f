/// Evaluates snapshots beside the updates. It holds nothing of the server's; while one evaluation is running, only the
/// newest snapshot waits.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "lategrad/node/node.h"

namespace lategrad {

class EvaluationThread {
  public:
    /// Nothing: it was given up.
    using Evaluate = std::function<std::optional<Evaluation>(const Snapshot&)>;
    using Answer = std::function<void(const Evaluation&)>;

    /// When to evaluate: beside the run, or after it, where evaluating would slow down what is being measured.
    enum class When { beside, after };

    /// Both functions are called on the evaluation thread. With When::after, at most `snapshots_max` are kept: beyond
    /// that every second one is let go.
    EvaluationThread(When when, std::size_t snapshots_max, Evaluate evaluate, Answer answer);
    ~EvaluationThread();

    void submit(const Snapshot& snapshot);
    /// The run is over: evaluates what waits, or what was kept, and returns when that is done. What is not done
    /// `within` such a time is given up. Rethrows what `evaluate` threw.
    void finish(std::optional<Duration> within = {});
    /// For `evaluate` to look at, now and then.
    bool given_up() const { return given_up_; }

  private:
    void loop();

    When when_;
    std::size_t snapshots_max_;
    Evaluate evaluate_;
    Answer answer_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<Snapshot> waiting_; ///< beside: at most one
    std::size_t submitted_ = 0;
    std::size_t keep_every_ = 1; ///< after
    bool finishing_ = false;
    bool ended_ = false;
    std::atomic<bool> given_up_ = false;
    std::exception_ptr failure_;
    std::jthread thread_;
};

} // namespace lategrad
