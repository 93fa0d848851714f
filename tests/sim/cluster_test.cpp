#include "lategrad/sim/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "lategrad/telemetry/event_json.h"
#include "tests/files/temp_dir.h"
#include "tests/sim/timing_run.h"

namespace lategrad {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kFloats = 1000;
constexpr double kParameters = kFloats * sizeof(float) + kHeaderBytes; ///< bytes of parameters, and of a push
constexpr double kHello = kHeaderBytes;

/// The times of the updates.
std::vector<double> update_times(const TimingRun& run) {
    std::vector<double> times;
    for (const auto& [at, update] : run.all<UpdateEvent>()) times.push_back(seconds(at));
    return times;
}

std::vector<double> multiples(double period, std::size_t count, double first) {
    std::vector<double> times;
    for (std::size_t i = 0; i < count; ++i) times.push_back(first + period * static_cast<double>(i));
    return times;
}

void expect_times(const std::vector<double>& got, const std::vector<double>& expected) {
    ASSERT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-7) << "update " << i;
}

// By hand: one second of computation, links of a million bytes per second. Time begins with the last hello.

TEST(ClusterTiming, TwoWorkersShareTheServersLink) {
    ClusterOptions options = TimingRun::options("sync", 2, 2, 3, kFloats);
    options.compute_time = [](WorkerId, Step) { return Duration(std::chrono::seconds(1)); };
    options.links.parse_link("8Mbit,10ms");
    TimingRun run(options);
    ASSERT_TRUE(run.cluster().run());
    // Down to both at half the rate, 10 ms of latency, 1 s, up at half the rate, 10 ms.
    const double period = 2 * kParameters / 1e6 + 0.01 + 1 + 2 * kParameters / 1e6 + 0.01;
    expect_times(update_times(run), multiples(period, 3, period));
    // All that moved over what could have, between the hellos and the end.
    const ClusterLoad load = run.cluster().load();
    EXPECT_NEAR(load.sending, 2 * kParameters * 3 / 1e6 / (3 * period), 1e-3);
    EXPECT_NEAR(load.receiving, (2 * kParameters * 3 + 2 * kHello) / 1e6 / (3 * period), 1e-3);
}

TEST(ClusterTiming, AServerOfTwiceTheRateLeavesEachWorkerItsOwn) {
    ClusterOptions options = TimingRun::options("sync", 2, 2, 2, kFloats);
    options.compute_time = [](WorkerId, Step) { return Duration(std::chrono::seconds(1)); };
    options.links.parse_link("8Mbit");
    options.links.parse_server_link("16Mbit");
    TimingRun run(options);
    ASSERT_TRUE(run.cluster().run());
    const double period = kParameters / 1e6 + 1 + kParameters / 1e6;
    expect_times(update_times(run), multiples(period, 2, period));
}

TEST(ClusterTiming, TwoServersTakeHalfEach) {
    // Each message is two slices with a header each, on two links at once.
    ClusterOptions options = TimingRun::options("sync", 4, 4, 2, kFloats);
    options.compute_time = [](WorkerId, Step) { return Duration(std::chrono::seconds(1)); };
    options.links.parse_link("8Mbit");
    options.links.servers = 2;
    TimingRun run(options);
    ASSERT_TRUE(run.cluster().run());
    const double transfer = 4 * (kParameters + kHello) / 2e6;
    expect_times(update_times(run), multiples(transfer + 1 + transfer, 2, transfer + 1 + transfer));
}

TEST(ClusterTiming, UpdatesTakeTheirTime) {
    ClusterOptions options = TimingRun::options("sync", 2, 2, 3, kFloats);
    options.compute_time = [](WorkerId worker, Step) { return Duration(milliseconds(worker.value() == 0 ? 5 : 20)); };
    options.update_time = milliseconds(7);
    TimingRun run(options);
    ASSERT_TRUE(run.cluster().run());
    expect_times(update_times(run), {0.020, 0.047, 0.074});
    EXPECT_NEAR(run.cluster().load().updating, 3 * 0.007 / 0.081, 1e-9);
}

TEST(ClusterTiming, ASlowWorkerIsNotWaitedFor) {
    // Worker 2 takes 25 ms and is late for three updates out of ten milliseconds each.
    ClusterOptions options = TimingRun::options("reuse", 3, 2, 4, kFloats);
    options.compute_time = [](WorkerId worker, Step) { return Duration(milliseconds(worker.value() == 2 ? 25 : 10)); };
    TimingRun run(options);
    ASSERT_TRUE(run.cluster().run());
    expect_times(update_times(run), {0.010, 0.020, 0.030, 0.040});
    const auto updates = run.all<UpdateEvent>();
    ASSERT_EQ(updates[2].second.applied.size(), 3u); // arrived at 25 ms, joins the update at 30 ms
    EXPECT_EQ(updates[2].second.applied[2].worker, WorkerId{2});
    EXPECT_EQ(updates[2].second.applied[2].base, Version{0});
}

TEST(ClusterFailures, AWorkerThatDiesIsMissedAndReturns) {
    // Worker 1 dies in its second gradient and is back at 55 ms.
    ClusterOptions options = TimingRun::options("sync", 2, 2, 6, kFloats);
    options.compute_time = [](WorkerId, Step) { return Duration(milliseconds(10)); };
    TimingRun run(options);
    run.cluster().kill(WorkerId{1}, Time{milliseconds(15)});
    run.cluster().revive(WorkerId{1}, Time{milliseconds(55)});
    ASSERT_TRUE(run.cluster().run());
    expect_times(update_times(run), {0.010, 0.020, 0.030, 0.040, 0.050, 0.065});
    const auto leaves = run.all<LeaveEvent>();
    const auto joins = run.all<JoinEvent>();
    ASSERT_EQ(leaves.size(), 1u);
    EXPECT_EQ(leaves[0].first, Time{milliseconds(15)});
    ASSERT_EQ(joins.size(), 3u);
    EXPECT_EQ(joins[2].first, Time{milliseconds(55)});
    // It begins with the current version and goes on counting its steps.
    const auto assigned = run.all<AssignEvent>();
    const auto after = std::find_if(assigned.begin(), assigned.end(), [](const auto& assign) {
        return assign.first == Time{milliseconds(55)} && assign.second.worker == WorkerId{1};
    });
    ASSERT_NE(after, assigned.end());
    EXPECT_EQ(after->second.version, Version{5});
    EXPECT_EQ(after->second.step, Step{2});
    const auto updates = run.all<UpdateEvent>();
    EXPECT_EQ(updates[4].second.applied.size(), 1u);
    EXPECT_EQ(updates[5].second.applied.size(), 2u);
    EXPECT_EQ(run.cluster().server().totals().lost, 1u);
}

TEST(ClusterFailures, AProcessDoesNotWaitForTheMemoryOfThoseBeforeIt) {
    // Worker 0 pushes and dies three times while worker 1 computes; each time it pushes anew.
    ClusterOptions options = TimingRun::options("sync", 2, 2, 1, kFloats);
    options.compute_time = [](WorkerId worker, Step) { return Duration(milliseconds(worker.value() == 0 ? 10 : 200)); };
    TimingRun run(options);
    for (int i = 0; i < 3; ++i) {
        run.cluster().kill(WorkerId{0}, Time{milliseconds(20 + 40 * i)});
        run.cluster().revive(WorkerId{0}, Time{milliseconds(40 + 40 * i)});
    }
    ASSERT_TRUE(run.cluster().run());
    expect_times(update_times(run), {0.200});
    EXPECT_EQ(run.all<UpdateEvent>()[0].second.applied.size(), 5u);
}

TEST(ClusterFailures, ADeathIsNoticedAfterADelayAndBeforeTheReturn) {
    ClusterOptions options = TimingRun::options("sync", 2, 2, 4, kFloats);
    options.compute_time = [](WorkerId, Step) { return Duration(milliseconds(10)); };
    options.failures = FailureModel::parse("mtbf:300h,rejoin:1ms,detect:30ms", 1); // nobody dies by chance
    TimingRun run(options);
    run.cluster().kill(WorkerId{1}, Time{milliseconds(15)});
    ASSERT_TRUE(run.cluster().run());
    // The others wait until it is missed, at 45 ms; it is back at once and makes 55 ms of the next one.
    expect_times(update_times(run), {0.010, 0.045, 0.055, 0.065});
    EXPECT_EQ(run.all<JoinEvent>().size(), 3u);
}

TEST(ClusterFailures, RandomOnesTakeTheShareOfTimeThatTheyShould) {
    // Alive for 2 s and away for 1 s on average: two thirds of the gradients that n workers could have made.
    constexpr std::size_t kWorkers = 50;
    ClusterOptions options = TimingRun::options("async", kWorkers, 1, UINT64_MAX, kFloats);
    options.server.updates.reset();
    options.server.time_limit = std::chrono::seconds(200);
    options.compute_time = [](WorkerId, Step) { return Duration(milliseconds(10)); };
    options.failures = FailureModel::parse("mtbf:2s,rejoin:1s", 1);
    TimingRun run(options);
    run.keep = false;
    ASSERT_TRUE(run.cluster().run());
    const LedgerTotals& totals = run.cluster().server().totals();
    EXPECT_TRUE(totals.adds_up());
    EXPECT_NEAR(static_cast<double>(totals.applied), kWorkers * 200 / 0.010 * 2 / 3, 0.02 * kWorkers * 200 / 0.010);
    EXPECT_GT(totals.lost, 1000u);
}

TEST(ClusterFailures, CutTransfers) {
    // Worker 1 dies while its push is on the way: the other's gets the whole link.
    ClusterOptions options = TimingRun::options("reuse", 2, 1, 1, kFloats);
    options.compute_time = [](WorkerId, Step) { return Duration(std::chrono::seconds(1)); };
    options.links.parse_link("8Mbit");
    TimingRun run(options);
    const double hellos = 2 * kHello / 1e6;
    const double begins = hellos + 2 * kParameters / 1e6 + 1; // both pushes
    run.cluster().kill(WorkerId{1}, Time{from_seconds(begins + kParameters / 1e6)});
    ASSERT_TRUE(run.cluster().run());
    // Half of each was through; the rest of the other's alone.
    expect_times(update_times(run), {begins - hellos + 1.5 * kParameters / 1e6});
}

TEST(Cluster, RepeatsItself) {
    const auto once = [] {
        ClusterOptions options = TimingRun::options("reuse", 20, 12, 200, kFloats);
        options.compute_time = [](WorkerId worker, Step step) {
            return Duration(1'000'000 + (worker.value() * 7919 + step.value() * 104'729) % 3'000'000);
        };
        options.links.parse_link("100Mbit,50us");
        options.failures = FailureModel::parse("mtbf:50ms,rejoin:5ms", 4);
        auto run = std::make_unique<TimingRun>(std::move(options));
        EXPECT_TRUE(run->cluster().run());
        return run;
    };
    const auto lines = [](const TimingRun& run) {
        std::vector<std::string> lines;
        for (const RunEvent& event : run.events) lines.push_back(to_json_line(event));
        return lines;
    };
    const auto first = once();
    EXPECT_GT(first->all<LeaveEvent>().size(), 10u);
    EXPECT_EQ(lines(*first), lines(*once()));
}

TEST(ClusterFailures, WhoDiesAgainBeforeItsReturnIsDecidedOnStaysAway) {
    // During the update that ends at 110 ms, worker 1 dies and comes back: its death, once decided on, closes the next
    // update, and its hello still waits. It dies for good. The run must not wait for it.
    ClusterOptions options = TimingRun::options("kasync", 3, 2, 5, kFloats);
    options.compute_time = [](WorkerId worker, Step) { return Duration(milliseconds(worker.value() == 2 ? 50 : 10)); };
    options.update_time = milliseconds(100);
    TimingRun run(options);
    for (const auto& [leaves, returns] : {std::pair{60, 70}, std::pair{150, 160}, std::pair{165, 1000}}) {
        run.cluster().kill(WorkerId{1}, Time{milliseconds(leaves)});
        run.cluster().revive(WorkerId{1}, Time{milliseconds(returns)});
    }
    ASSERT_TRUE(run.cluster().run());
    EXPECT_TRUE(run.cluster().server().totals().adds_up());
}

TEST(ClusterFailures, ANewLifeHearsNothingOfTheLastOne) {
    for (const char* link : {"unlimited,50ms", "100Gbit,50ms", "1Mbit,50ms"}) {
        ClusterOptions options = TimingRun::options("reuse", 5, 3, 200, kFloats);
        options.compute_time = [](WorkerId, Step) { return Duration(milliseconds(20)); };
        options.links.parse_link(link);
        options.failures = FailureModel::parse("mtbf:300ms,rejoin:10ms", 1);
        TimingRun run(options);
        ASSERT_TRUE(run.cluster().run()) << link;
        EXPECT_GT(run.all<LeaveEvent>().size(), 10u) << link;
        EXPECT_EQ(run.cluster().server().totals().stray, 0u) << link;
        EXPECT_EQ(run.cluster().server().outcome(), Outcome::updates) << link;
    }
}

TEST(ClusterFailures, TheRunWaitsWhereAllAreAway) {
    ClusterOptions options = TimingRun::options("sync", 1, 1, 300, kFloats);
    options.compute_time = [](WorkerId, Step) { return Duration(milliseconds(10)); };
    options.failures = FailureModel::parse("mtbf:100ms,rejoin:20ms", 1);
    TimingRun run(options);
    ASSERT_TRUE(run.cluster().run());
    EXPECT_EQ(run.cluster().server().outcome(), Outcome::updates);
    EXPECT_GT(run.all<LeaveEvent>().size(), 10u);
}

TEST(ClusterFailures, AScriptCountsFromWhenAllWereThere) {
    const TempDir dir;
    const std::string script = dir.write("failures.csv", "seconds,worker,event\n0,1,leave\n0.025,1,join\n").string();
    ClusterOptions options = TimingRun::options("sync", 2, 2, 3, kFloats);
    options.compute_time = [](WorkerId, Step) { return Duration(milliseconds(10)); };
    options.links.parse_link("unlimited,1ms"); // the hellos arrive at 1 ms
    options.failures = FailureModel::parse("script:" + script, 1);
    TimingRun run(options);
    ASSERT_TRUE(run.cluster().run());
    const auto leaves = run.all<LeaveEvent>();
    const auto joins = run.all<JoinEvent>();
    ASSERT_EQ(leaves.size(), 1u);
    EXPECT_EQ(leaves[0].first, Time{milliseconds(1)}); // noticed a latency later
    ASSERT_EQ(joins.size(), 3u);
    EXPECT_EQ(joins[2].first, Time{milliseconds(26)});
}

TEST(ClusterTime, EndsBeforeItOverflows) {
    ClusterOptions options = TimingRun::options("sync", 2, 2, 20, kFloats);
    options.compute_time = [](WorkerId, Step) { return Duration(from_seconds(kSecondsMax)); };
    TimingRun run(options);
    EXPECT_FALSE(run.cluster().run()); // twenty times 31 years would be
    EXPECT_FALSE(run.cluster().done());
    EXPECT_EQ(run.all<UpdateEvent>().size(), 9u);
}

} // namespace
} // namespace lategrad
