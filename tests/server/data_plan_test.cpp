#include "lategrad/server/data_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace lategrad {
namespace {

using namespace std::chrono_literals;
using Changes = std::vector<std::pair<std::uint32_t, std::uint32_t>>; ///< part, worker

WorkerId w(std::uint32_t id) {
    return WorkerId{id};
}

Changes joined(DataPlan& plan, std::uint32_t worker) {
    std::vector<DataPlan::Change> changes;
    plan.joined(w(worker), changes);
    Changes out;
    for (const auto& change : changes) out.emplace_back(change.part, change.worker.value());
    return out;
}

Changes reassigned(DataPlan& plan, Time now) {
    std::vector<DataPlan::Change> changes;
    plan.reassign(now, changes);
    Changes out;
    for (const auto& change : changes) out.emplace_back(change.part, change.worker.value());
    return out;
}

TEST(DataPlan, EachWorkerWalksThroughItsOwnPart) {
    DataPlan plan({}, 3, Duration::max());
    for (const std::uint32_t worker : {0, 1, 2}) EXPECT_EQ(joined(plan, worker), Changes{});
    for (std::uint64_t step = 0; step < 5; ++step) {
        EXPECT_EQ(plan.take(w(0), 4), own_data(w(0), Step{step}, 4));
        EXPECT_EQ(plan.take(w(2), 3), own_data(w(2), Step{step}, 3));
    }
    plan.left(w(1), Time{1h});
    EXPECT_EQ(plan.wake_at(), kNever);
    EXPECT_EQ(reassigned(plan, Time{1000h}), Changes{});
}

TEST(DataPlan, APartWithoutAWorkerIsGivenAwayAfterAWhileAndReturned) {
    DataPlan plan({100, 100, 100}, 3, 10s);
    for (const std::uint32_t worker : {0, 1, 2}) joined(plan, worker);
    plan.take(w(2), 50);
    plan.left(w(2), Time{5s});
    EXPECT_EQ(plan.wake_at(), Time{15s});
    EXPECT_EQ(reassigned(plan, Time{14s}), Changes{});
    EXPECT_EQ(reassigned(plan, Time{15s}), (Changes{{2, 0}}));
    // Its own is behind, then the other goes on where it was left.
    EXPECT_EQ(plan.take(w(0), 60), (DataPosition{0, 0}));
    EXPECT_EQ(plan.take(w(0), 60), (DataPosition{2, 50}));
    EXPECT_EQ(plan.take(w(0), 60), (DataPosition{0, 60}));
    EXPECT_EQ(plan.take(w(1), 60), (DataPosition{1, 0}));
    EXPECT_EQ(joined(plan, 2), (Changes{{2, 2}}));
    EXPECT_EQ(plan.take(w(2), 60), (DataPosition{2, 110}));
    EXPECT_EQ(plan.take(w(0), 60), (DataPosition{0, 120}));
}

TEST(DataPlan, WhoAdoptedAndLeavesOrphansBoth) {
    DataPlan plan({10, 10, 10, 10}, 4, 10s);
    for (const std::uint32_t worker : {0, 1, 2, 3}) joined(plan, worker);
    plan.left(w(3), Time{0s});
    EXPECT_EQ(reassigned(plan, Time{10s}), (Changes{{3, 0}}));
    plan.left(w(2), Time{11s});
    EXPECT_EQ(reassigned(plan, Time{21s}), (Changes{{2, 1}})) << "each to who has least";
    plan.left(w(0), Time{22s});
    EXPECT_EQ(reassigned(plan, Time{32s}), (Changes{{0, 1}, {3, 1}}));
    plan.left(w(1), Time{33s});
    EXPECT_EQ(reassigned(plan, Time{50s}), Changes{}) << "nobody is there";
    EXPECT_EQ(joined(plan, 1), Changes{});
    EXPECT_EQ(reassigned(plan, Time{60s}), (Changes{{0, 1}, {2, 1}, {3, 1}}));
}

TEST(DataPlan, PartsThatNeverHadAWorkerAreGivenAwayToo) {
    DataPlan plan({10, 10, 10}, 3, 10s);
    joined(plan, 0);
    plan.begin(Time{2s});
    EXPECT_EQ(reassigned(plan, Time{12s}), (Changes{{1, 0}, {2, 0}}));
}

TEST(DataPlan, MoreWorkersThanPartsShareThem) {
    DataPlan plan({100, 100}, 4, 10s);
    for (const std::uint32_t worker : {0, 1, 2}) joined(plan, worker);
    EXPECT_EQ(plan.take(w(0), 8), (DataPosition{0, 0}));
    EXPECT_EQ(plan.take(w(2), 8), (DataPosition{0, 8}));
    plan.left(w(0), Time{0s});
    EXPECT_EQ(reassigned(plan, Time{100s}), Changes{}) << "one of its own is still here";
}

TEST(DataPlan, SaysHowMuchOfTheDataHasBeenSeen) {
    DataPlan plan({100, 300}, 2, 10s);
    joined(plan, 0);
    joined(plan, 1);
    EXPECT_EQ(plan.coverage(), 0);
    plan.take(w(0), 150);
    EXPECT_EQ(plan.coverage(), 0.25);
    plan.take(w(1), 60);
    EXPECT_EQ(plan.coverage(), 0.4);
}

/// Whoever comes and goes: each part has at most one adopter, and its walk has no gap and nothing twice.
RC_GTEST_PROP(DataPlan, NoExampleIsSkippedOrDrawnTwice, ()) {
    const auto parts = *rc::gen::inRange<std::size_t>(1, 6);
    const auto workers = parts + *rc::gen::inRange<std::size_t>(0, 4);
    DataPlan plan(std::vector<std::uint64_t>(parts, 50), workers, 10s);
    std::vector<bool> here(workers, false);
    std::vector<std::uint64_t> next(parts, 0);
    Time now{};
    for (int i = *rc::gen::inRange(0, 200); i > 0; --i) {
        now += std::chrono::seconds(*rc::gen::inRange(0, 6));
        const auto worker = *rc::gen::inRange<std::uint32_t>(0, static_cast<std::uint32_t>(workers));
        reassigned(plan, now);
        if (!here[worker]) {
            here[worker] = true;
            joined(plan, worker);
        } else if (*rc::gen::inRange(0, 4) == 0) {
            here[worker] = false;
            plan.left(w(worker), now);
        } else {
            const auto size = *rc::gen::inRange<std::uint32_t>(1, 9);
            const DataPosition begin = plan.take(w(worker), size);
            RC_ASSERT(begin.position == next[begin.part]);
            next[begin.part] += size;
        }
    }
    for (std::uint32_t part = 0; part < parts; ++part) RC_ASSERT(plan.position(part) == next[part]);
}

} // namespace
} // namespace lategrad
