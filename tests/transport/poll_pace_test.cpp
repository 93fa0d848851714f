#include "lategrad/transport/poll_pace.h"

#include <gtest/gtest.h>

namespace lategrad {
namespace {

using namespace std::chrono_literals;
using Wait = PollPace::Wait;

Time at(Duration since_start) {
    return Time{since_start};
}

TEST(PollPace, SpinsThenYieldsThenSleepsLongerAndLonger) {
    const PollPace pace(false, at(0ms));
    EXPECT_EQ(pace.pause(at(49us)).wait, Wait::spin);
    EXPECT_EQ(pace.pause(at(50us)).wait, Wait::yield);
    EXPECT_EQ(pace.pause(at(499us)).wait, Wait::yield);
    EXPECT_EQ(pace.pause(at(500us)).wait, Wait::sleep);
    EXPECT_EQ(pace.pause(at(8ms)).sleep, 500us);
    EXPECT_EQ(pace.pause(at(16ms)).sleep, 1ms);
    EXPECT_EQ(pace.pause(at(1h)).sleep, PollPace::kSleepMax);
}

TEST(PollPace, GivesTheCoreAwayAtOnceWhereProcessesOutnumberCores) {
    const PollPace pace(true, at(0ms));
    EXPECT_EQ(pace.pause(at(0us)).wait, Wait::yield);
    EXPECT_EQ(pace.pause(at(50us)).wait, Wait::sleep);
    EXPECT_EQ(pace.pause(at(50us)).sleep, PollPace::kSleepMin);
}

TEST(PollPace, StartsAnewWithEveryProgress) {
    PollPace pace(false, at(0ms));
    pace.progressed(at(1s));
    EXPECT_EQ(pace.pause(at(1s)).wait, Wait::spin);
}

TEST(PollPace, DoesNotSleepWhileBytesAreOnTheirWay) {
    PollPace pace(false, at(0ms));
    pace.transferring(at(0ms), 100'000'000);
    EXPECT_EQ(pace.pause(at(100ms)).wait, Wait::yield);
    EXPECT_EQ(pace.pause(at(101ms)).wait, Wait::sleep); // the peer may be dead
}

} // namespace
} // namespace lategrad
