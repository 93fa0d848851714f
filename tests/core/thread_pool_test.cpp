#include "lategrad/core/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

TEST(ThreadPool, CallsEveryBlockOnce) {
    for (const std::size_t threads : {1u, 2u, 3u, 8u}) {
        ThreadPool pool(threads);
        EXPECT_EQ(pool.size(), threads);
        for (const std::size_t blocks : {0u, 1u, 2u, 7u, 1000u}) {
            std::vector<std::atomic<int>> calls(blocks);
            pool.run(blocks, [&](std::size_t block) { ++calls.at(block); });
            for (const auto& count : calls) EXPECT_EQ(count, 1);
        }
    }
}

TEST(ThreadPool, ManyRoundsStayApart) {
    // Plain ints: what one round wrote must be seen by the next one, whichever threads they ran on.
    ThreadPool pool(4);
    std::vector<int> values(16);
    for (int round = 0; round < 5000; ++round) {
        pool.run(values.size(), [&](std::size_t block) {
            if (values[block] == round) values[block] = round + 1;
        });
    }
    for (const int value : values) EXPECT_EQ(value, 5000);
}

TEST(ThreadPool, WorksOnAllItsThreads) {
    ThreadPool pool(3);
    std::mutex mutex;
    std::condition_variable all_here;
    int here = 0;
    // Each block waits for the others: with fewer threads than blocks this would never end.
    pool.run(3, [&](std::size_t) {
        std::unique_lock lock(mutex);
        ++here;
        all_here.notify_all();
        all_here.wait(lock, [&] { return here == 3; });
    });
    EXPECT_EQ(here, 3);
}

TEST(ThreadPool, EndsWithoutEverHavingRun) {
    const auto pool = std::make_unique<ThreadPool>(4);
}

TEST(ThreadPoolDeathTest, SaysWhenTheSystemGivesNoMoreThreads) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "sanitizers need the address space that this test takes away";
#endif
    const auto ask_for_too_many = [] {
        // Room for a few stacks of 8 MiB beside what the program has.
        const rlimit limit{256 << 20, 256 << 20};
        setrlimit(RLIMIT_AS, &limit);
        try {
            ThreadPool pool(1000);
        } catch (const EnvironmentError& error) {
            std::fputs(error.what(), stderr);
            std::_Exit(3);
        }
        std::_Exit(0);
    };
    EXPECT_EXIT(ask_for_too_many(), testing::ExitedWithCode(3), "cannot start 1000 threads: .*; ask for fewer");
}

} // namespace
} // namespace lategrad
