/// A thread that does one job at a time: a worker's gradients, the server's updates.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "lategrad/core/error.h"

namespace lategrad {

/// Runs `work(job)` on its own thread for each `start(job)`. Whoever starts jobs waits for one to end, by what `work`
/// posts, before starting the next; one more may be started from then on even if the thread is still on its way back.
template <class Job>
class JobThread {
  public:
    /// `work` must not throw; it may move out of its job.
    explicit JobThread(std::function<void(Job&)> work) : work_(std::move(work)), thread_([this] { loop(); }) {}

    ~JobThread() {
        {
            const std::lock_guard lock(mutex_);
            closing_ = true;
        }
        changed_.notify_one();
    }

    void start(Job job) {
        {
            const std::lock_guard lock(mutex_);
            CHECK(!job_ && "one job at a time");
            job_ = std::move(job);
        }
        changed_.notify_one();
    }

  private:
    void loop() {
        std::unique_lock lock(mutex_);
        for (;;) {
            changed_.wait(lock, [this] { return closing_ || job_.has_value(); });
            if (!job_) return; // a job already started is done before closing
            Job job = *std::exchange(job_, std::nullopt);
            lock.unlock();
            work_(job);
            lock.lock();
        }
    }

    std::function<void(Job&)> work_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::optional<Job> job_;
    bool closing_ = false;
    std::jthread thread_;
};

} // namespace lategrad
