#include "lategrad/core/thread_pool.h"

#include <string>
#include <system_error>

#include "lategrad/core/error.h"

namespace lategrad {

ThreadPool::ThreadPool(std::size_t threads) {
    CHECK(threads > 0);
    try {
        for (std::size_t i = 1; i < threads; ++i) helpers_.emplace_back([this] { help(); });
    } catch (const std::system_error& error) {
        close(); // those that did start would otherwise be waited for without end
        throw EnvironmentError("cannot start " + std::to_string(threads) + " threads: " + error.what() +
                               "; ask for fewer");
    }
}

ThreadPool::~ThreadPool() {
    close();
}

void ThreadPool::close() {
    {
        const std::lock_guard lock(mutex_);
        closing_ = true;
    }
    start_.notify_all();
}

void ThreadPool::run(std::size_t blocks, const std::function<void(std::size_t)>& work) {
    if (blocks <= 1 || helpers_.empty()) { // waking threads for one block costs more than the block
        for (std::size_t i = 0; i < blocks; ++i) work(i);
        return;
    }
    {
        const std::lock_guard lock(mutex_);
        work_ = &work;
        blocks_ = blocks;
        next_.store(0, std::memory_order_relaxed);
        busy_ = helpers_.size();
        ++round_;
    }
    start_.notify_all();
    take_blocks();
    std::unique_lock lock(mutex_);
    finished_.wait(lock, [this] { return busy_ == 0; });
}

void ThreadPool::take_blocks() {
    for (std::size_t i = next_.fetch_add(1); i < blocks_; i = next_.fetch_add(1)) (*work_)(i);
}

void ThreadPool::help() {
    std::uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    for (;;) {
        start_.wait(lock, [&] { return closing_ || round_ != seen; });
        if (closing_) return;
        seen = round_;
        lock.unlock();
        take_blocks();
        lock.lock();
        if (--busy_ == 0) finished_.notify_one();
    }
}

} // namespace lategrad
