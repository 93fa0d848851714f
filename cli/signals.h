/// Ctrl-C and SIGTERM: the first one ends the run cleanly, the second one at once.
#pragma once

#include <functional>
#include <mutex>
#include <thread>

namespace lategrad {

/// While one of these lives, the two signals come to a thread of its own. Construct it before any other thread, which
/// then inherits the blocked signals.
class Signals {
  public:
    Signals();
    ~Signals();

    /// What the first signal calls, on the signals' thread; one that came before is told at once. Empty: nothing.
    void on_first(std::function<void()> call);

    /// How many came so far.
    int count() {
        const std::lock_guard lock(mutex_);
        return count_;
    }

  private:
    void wait(const std::stop_token& stop);

    std::mutex mutex_;
    std::function<void()> call_;
    int count_ = 0;
    std::jthread thread_;
};

} // namespace lategrad
