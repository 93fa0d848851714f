/// A fixed team of threads for the one thing we do on all cores: the same work over the blocks of a range.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace lategrad {

/// Not re-entrant: one `run` at a time. Allocates nothing after construction.
class ThreadPool {
  public:
    /// `threads` in all, the caller of `run` among them. Throws EnvironmentError where the system gives no more.
    /// REQUIRES: threads > 0.
    explicit ThreadPool(std::size_t threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    std::size_t size() const { return helpers_.size() + 1; }

    /// Calls `work(block)` once for each block in [0, blocks), on all threads in no particular order, and returns when
    /// every call has. `work` must not throw, and its result must not depend on the order.
    void run(std::size_t blocks, const std::function<void(std::size_t)>& work);

  private:
    void help();
    void close();
    void take_blocks();

    std::mutex mutex_;
    std::condition_variable start_;
    std::condition_variable finished_;
    std::uint64_t round_ = 0;
    std::size_t busy_ = 0;
    bool closing_ = false;
    const std::function<void(std::size_t)>* work_ = nullptr;
    std::size_t blocks_ = 0;
    std::atomic<std::size_t> next_{0};
    std::vector<std::jthread> helpers_;
};

} // namespace lategrad
