#include "lategrad/server/silence.h"

#include <gtest/gtest.h>

#include <string>

namespace lategrad {
namespace {

using namespace std::chrono_literals;

constexpr WorkerId kFirst{0}, kSecond{1};

Time at(Duration since) {
    return Time{since};
}

/// Everybody whose time has come, as "0 suspect, 1 dead".
std::string judged(Silence& silence, Time now) {
    std::string out;
    while (const auto next = silence.next(now)) {
        const char* verdict = next->verdict == Silence::Verdict::suspect   ? " suspect"
                              : next->verdict == Silence::Verdict::overdue ? " overdue"
                                                                           : " dead";
        out += (out.empty() ? "" : ", ") + std::to_string(next->worker.value()) + verdict;
    }
    return out;
}

TEST(Silence, IsFirstSuspectThenDead) {
    Silence silence({.heartbeat = 250ms, .suspect_after = 1s, .dead_after = 5s}, 2);
    silence.joined(kFirst, at(0s));
    silence.joined(kSecond, at(0s));
    EXPECT_EQ(silence.wake_at(), at(1s));
    EXPECT_FALSE(silence.heard(kFirst, at(500ms)));
    EXPECT_EQ(judged(silence, at(999ms)), "");
    EXPECT_EQ(judged(silence, at(1s)), "1 suspect");
    EXPECT_EQ(silence.wake_at(), at(1500ms));
    EXPECT_EQ(judged(silence, at(1500ms)), "0 suspect");
    EXPECT_TRUE(silence.heard(kFirst, at(3s)));
    EXPECT_FALSE(silence.heard(kFirst, at(3s))) << "it returns once";
    EXPECT_EQ(judged(silence, at(5s)), "0 suspect, 1 dead");
    EXPECT_EQ(judged(silence, at(8s)), "0 dead");
    EXPECT_EQ(silence.wake_at(), kNever);
    silence.joined(kFirst, at(9s));
    EXPECT_EQ(silence.wake_at(), at(10s));
}

TEST(Silence, WhoHasLeftIsNotMissed) {
    Silence silence({.heartbeat = 250ms, .suspect_after = 1s, .dead_after = 5s}, 1);
    silence.joined(kFirst, at(0s));
    silence.left(kFirst);
    EXPECT_EQ(judged(silence, at(100s)), "");
}

TEST(Silence, AStallOfWhoJudgesIsNobodys) {
    Silence silence({.heartbeat = 250ms, .suspect_after = 1s, .dead_after = 5s, .overdue_after = 20s}, 2);
    for (const WorkerId worker : {kFirst, kSecond}) silence.joined(worker, at(0s));
    silence.assigned(kFirst, at(0s));
    silence.awake(at(900ms));
    for (const WorkerId worker : {kFirst, kSecond}) silence.heard(worker, at(900ms));
    std::string all;
    for (Time now = at(40s); now <= at(50s); now += 500ms) {
        silence.awake(now);
        silence.heard(kFirst, now);
        const std::string some = judged(silence, now);
        if (!some.empty()) all += std::to_string((now - at(40s)) / 1s) + " s: " + some + "\n";
    }
    EXPECT_EQ(all, "1 s: 1 suspect\n5 s: 1 dead\n") << "as if it had not been";
}

TEST(Silence, SleepUntilTheNextOnesTimeIsNoStall) {
    Silence silence({.heartbeat = 250ms, .suspect_after = 1s, .dead_after = 5s}, 1);
    silence.joined(kFirst, at(0s));
    silence.awake(at(1s));
    EXPECT_EQ(judged(silence, at(1s)), "0 suspect");
    silence.awake(silence.wake_at());
    EXPECT_EQ(judged(silence, at(5s)), "0 dead");
}

TEST(Silence, NobodyIsSuspectAndDeadAtOnce) {
    Silence silence({.heartbeat = 250ms, .suspect_after = 1s, .dead_after = 5s}, 1);
    silence.joined(kFirst, at(0s));
    EXPECT_EQ(judged(silence, at(100s)), "0 suspect");
    EXPECT_EQ(judged(silence, at(103999ms)), "");
    EXPECT_EQ(judged(silence, at(104s)), "0 dead");
}

TEST(Silence, MeansNothingWithoutHeartbeats) {
    Silence silence({}, 1);
    silence.joined(kFirst, at(0s));
    silence.assigned(kFirst, at(0s));
    EXPECT_EQ(silence.wake_at(), kNever);
    EXPECT_EQ(judged(silence, at(24h)), "");
}

TEST(Silence, AWorkerThatIsHeardButDoesNotDeliverIsOverdue) {
    Silence silence({.heartbeat = 250ms, .suspect_after = 1s, .dead_after = 5s, .overdue_after = 3s}, 1);
    silence.joined(kFirst, at(0s));
    silence.assigned(kFirst, at(0s));
    for (Time now = at(0s); now < at(3s); now += 500ms) silence.heard(kFirst, now);
    EXPECT_EQ(judged(silence, at(3s)), "0 overdue");
    EXPECT_FALSE(silence.heard(kFirst, at(4s))) << "a heartbeat is no gradient";
    EXPECT_EQ(judged(silence, at(8s)), "") << "and does not make it dead";
    EXPECT_TRUE(silence.arrived(kFirst, at(8500ms)));
    EXPECT_EQ(judged(silence, at(9s)), "");
}

TEST(Silence, IsJudgedByHowLongStepsTake) {
    Silence silence({.heartbeat = 250ms}, 2);
    for (const WorkerId worker : {kFirst, kSecond}) {
        silence.joined(worker, at(0s));
        silence.assigned(worker, at(0s));
    }
    EXPECT_FALSE(silence.arrived(kFirst, at(100ms)));
    silence.heard(kSecond, at(100ms));
    EXPECT_EQ(judged(silence, at(1100ms)), "0 suspect, 1 suspect") << "a second at least";
    EXPECT_TRUE(silence.arrived(kSecond, at(7100ms)));
    EXPECT_EQ(judged(silence, at(14s)), "") << "steps of 7 s";
    EXPECT_EQ(judged(silence, at(14200ms)), "1 suspect");
    EXPECT_EQ(judged(silence, at(30100ms)), "0 dead");
}

TEST(Silence, AFirstStepMayTakeLong) {
    Silence silence({.heartbeat = 250ms}, 1);
    silence.joined(kFirst, at(0s));
    silence.assigned(kFirst, at(0s));
    for (Time now = at(0s); now <= at(599s); now += 900ms) {
        silence.heard(kFirst, now);
        EXPECT_EQ(judged(silence, now), "");
    }
    silence.heard(kFirst, at(600s));
    EXPECT_EQ(judged(silence, at(600s)), "0 overdue");
}

} // namespace
} // namespace lategrad
