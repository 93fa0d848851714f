#include "lategrad/sim/event_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "lategrad/core/random.h"

namespace lategrad {
namespace {

Time at(int ns) {
    return Time{Duration(ns)};
}

TEST(EventQueue, IsInTheOrderOfTimeThenOfAsking) {
    EventQueue<int> queue;
    queue.push(at(5), 1);
    queue.push(at(3), 2);
    queue.push(at(5), 3);
    queue.push(at(0), 4); // now
    EXPECT_EQ(queue.pop(), 4);
    EXPECT_EQ(queue.pop(), 2);
    EXPECT_EQ(queue.now(), at(3));
    queue.push(at(1), 5); // has passed: now
    EXPECT_EQ(queue.pop(), 5);
    EXPECT_EQ(queue.now(), at(3));
    EXPECT_EQ(queue.pop(), 1);
    queue.push(at(5), 6); // now, and behind what was asked for this time before
    EXPECT_EQ(queue.pop(), 3);
    EXPECT_EQ(queue.pop(), 6);
    EXPECT_TRUE(queue.empty());
}

TEST(EventQueue, NeverIsNeverAndLaterSaturates) {
    EventQueue<int> queue;
    queue.push(kNever, 1);
    EXPECT_TRUE(queue.empty());
    EXPECT_EQ(later(at(5), Duration(3)), at(8));
    EXPECT_EQ(later(at(5), Duration::max()), kNever);
    EXPECT_EQ(later(kNever, Duration(1)), kNever);
}

TEST(EventQueue, EqualsItsSlowTwin) {
    RandomStream random(1, Purpose::test);
    EventQueue<int> queue;
    std::vector<std::pair<Time, int>> twin; // sorted by time, and in the order of asking
    int number = 0;
    for (int i = 0; i < 5000; ++i) {
        if (twin.empty() || random.below(3) != 0) {
            const Time when = queue.now() + Duration(random.below(4));
            queue.push(when, number);
            twin.insert(std::upper_bound(twin.begin(), twin.end(), when,
                                         [](Time a, const auto& entry) { return a < entry.first; }),
                        {when, number});
            ++number;
        } else {
            EXPECT_EQ(queue.pop(), twin.front().second);
            EXPECT_EQ(queue.now(), twin.front().first);
            twin.erase(twin.begin());
        }
    }
}

} // namespace
} // namespace lategrad
