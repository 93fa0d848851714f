#include "lategrad/runtime/job_thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <vector>

namespace lategrad {
namespace {

TEST(JobThread, DoesOneJobAfterTheOther) {
    std::vector<int> done;
    std::promise<void> next;
    JobThread<int> thread([&](int& job) {
        done.push_back(job);
        next.set_value();
    });
    for (int job = 0; job < 100; ++job) {
        next = {};
        auto finished = next.get_future();
        thread.start(job);
        finished.wait();
    }
    EXPECT_EQ(done.size(), 100u);
    EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
}

TEST(JobThread, RunsJobsOnAThreadOfItsOwn) {
    std::promise<std::thread::id> id;
    JobThread<int> thread([&](int&) { id.set_value(std::this_thread::get_id()); });
    thread.start(0);
    EXPECT_NE(id.get_future().get(), std::this_thread::get_id());
}

TEST(JobThread, FinishesWhatWasStartedBeforeItCloses) {
    int done = 0;
    {
        JobThread<int> thread([&](int& job) { done = job; });
        thread.start(7);
    }
    EXPECT_EQ(done, 7);
}

} // namespace
} // namespace lategrad
