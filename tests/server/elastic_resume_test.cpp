/// A server that was killed: what another one makes of its checkpoint when the workers come again.
#include <gtest/gtest.h>

#include <optional>

#include "tests/server/elastic_scene.h"

namespace lategrad {
namespace {

using namespace elastic_scene;

TEST(Elastic, AfterAResumePartsWaitForTheirOwners) {
    ServerOptions options = elastic(3);
    options.part_sizes = {50, 50, 50};
    options.checkpoints = true;
    options.checkpoint_updates = 1;
    Scene before(options);
    Message first = before.enter(1, 1001);
    before.enter(2, 1002);
    before.enter(3, 1003);
    before.say(1, before.push(first));
    ASSERT_TRUE(before.checkpoint);

    options.workers_start = 2;
    Scene scene(options);
    scene.now = Time{100s};
    scene.resume(*before.checkpoint);
    scene.enter(1, 1001);
    scene.enter(2, 1002);
    EXPECT_EQ(scene.all<JoinEvent>().size(), 2u);
    EXPECT_TRUE(scene.all<PartEvent>().empty());
    for (Time end = scene.now + 10s; scene.now < end; scene.now += 500ms) {
        EXPECT_TRUE(scene.all<PartEvent>().empty());
        for (const std::uint32_t peer : {1U, 2U}) scene.tell(PeerHeard{Peer{peer}});
    }
    scene.tell(Timer{});
    ASSERT_EQ(scene.all<PartEvent>().size(), 1u);
    EXPECT_EQ(scene.all<PartEvent>()[0].part, 2u);
}

TEST(Elastic, WhoHasNotJoinedYetDoesNotLeaveWhereTheRunIsResumed) {
    ServerOptions options = elastic(2, 2);
    options.checkpoints = true;
    options.checkpoint_updates = 1;
    Scene first(options, "reuse", 2);
    first.enter(1, 1001);
    first.say(2, first.push(first.enter(2, 1002)));
    first.tell(StopRequested{}); // one gradient is held
    ASSERT_TRUE(first.checkpoint);

    Scene second(options, "reuse", 2);
    second.resume(*first.checkpoint);
    second.enter(1, 1001);
    second.enter(2, 1002); // the first one to join closes an update of what was held
    ASSERT_TRUE(second.checkpoint);
    EXPECT_EQ(second.all<JoinEvent>().size(), 2u);

    Scene third(options, "reuse", 2);
    third.resume(*second.checkpoint);
    third.tell(Timer{});
    EXPECT_EQ(third.all<LeaveEvent>().size(), 1u) << "in the checkpoint the other one had yet to join";
}

/// What was on its way when the checkpoint was taken is lost, once, and counts on from there in every incarnation.
TEST(Elastic, ResumedTwiceInARowItAddsUp) {
    ServerOptions options = elastic(2);
    options.checkpoints = true;
    options.checkpoint_updates = 1;
    std::optional<CheckpointDue> last;
    std::optional<Step> step;
    for (const std::uint32_t incarnation : {0U, 1U, 2U}) {
        options.incarnation = Incarnation{incarnation};
        Scene scene(options);
        if (last) scene.resume(*last);
        const Message first = scene.enter(1, 1001);
        EXPECT_EQ(first.version, Version{incarnation}) << "each incarnation makes one update";
        EXPECT_TRUE(!step || first.step > *step) << "no step is given out twice";
        const Message other = scene.enter(2, 1002);
        EXPECT_EQ(scene.all<ResumeEvent>().size(), last ? 1u : 0u);
        EXPECT_EQ(scene.all<LostEvent>().size(), last ? 1u : 0u) << "the other worker's; the first one's had arrived";
        scene.say(1, scene.push(first));
        // Of the incarnation before, by who has not noticed: stray.
        Message old = scene.push(other);
        old.incarnation = Incarnation{incarnation + 1};
        scene.say(2, old);
        EXPECT_EQ(scene.server().totals(), (LedgerTotals{.pushed = 2 * (incarnation + 1ULL) + 1,
                                                         .applied = incarnation + 1ULL,
                                                         .lost = incarnation,
                                                         .open = 2,
                                                         .stray = 1}));
        EXPECT_TRUE(scene.server().totals().adds_up());
        ASSERT_TRUE(scene.checkpoint);
        last = scene.checkpoint;
        step = first.step;
    }
}

TEST(Elastic, ARunThatIsKilledBeforeItsFirstUpdateCanBeResumed) {
    ServerOptions options = elastic(2);
    options.checkpoints = true;
    Scene without(options);
    without.enter(1, 1001);
    EXPECT_FALSE(without.checkpoint) << "it makes one at its end alone";
    options.checkpoint_updates = 10;
    Scene killed(options);
    killed.enter(1, 1001);
    ASSERT_TRUE(killed.checkpoint);
    EXPECT_EQ(killed.checkpoint->version, Version{0});
    EXPECT_EQ(killed.checkpoint->events, killed.events.size()) << "with the first worker's coming";

    Scene scene(options);
    scene.resume(*killed.checkpoint);
    const Message work = scene.enter(1, 1001);
    EXPECT_EQ(work.version, Version{0});
    EXPECT_EQ(scene.all<LostEvent>().size(), 1u);
    EXPECT_EQ(scene.all<LeaveEvent>().size(), 1u);
    scene.say(1, scene.push(work));
    EXPECT_EQ(scene.server().version(), Version{1});
    EXPECT_TRUE(scene.server().totals().adds_up());
}

/// A checkpoint is taken before the version that it has is given out for evaluation: who resumes it does that.
TEST(Elastic, WhatWasBeingEvaluatedIsEvaluatedWhereTheRunIsResumed) {
    ServerOptions options = elastic(2);
    options.checkpoints = true;
    options.checkpoint_updates = 1;
    options.eval_every = 2;
    Scene before(options);
    Message work = before.enter(1, 1001);
    before.say(1, before.push(work));
    EXPECT_FALSE(before.effects().evaluate);
    const CheckpointDue of_one = *before.checkpoint;
    work = before.sent.at(1);
    before.say(1, before.push(work));
    ASSERT_TRUE(before.effects().evaluate);
    const CheckpointDue of_two = *before.checkpoint;
    ASSERT_EQ(of_two.version, Version{2});

    Scene two(options);
    two.resume(of_two);
    two.enter(1, 1001);
    ASSERT_TRUE(two.effects().evaluate);
    EXPECT_EQ(two.effects().evaluate->version, Version{2});
    Scene one(options);
    one.resume(of_one);
    one.enter(1, 1001);
    EXPECT_FALSE(one.effects().evaluate);
}

} // namespace
} // namespace lategrad
