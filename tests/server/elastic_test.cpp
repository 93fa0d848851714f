/// A server whose workers come as they like: join, welcome, hello; places, refusals, exclusion.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/server/elastic_scene.h"

namespace lategrad {
namespace {

using namespace elastic_scene;

TEST(Elastic, AWorkerIsToldWhoItIsAndThenLetIn) {
    Scene scene(elastic());
    scene.join(5, 1001);
    ASSERT_EQ(scene.type_to(5), MessageType::welcome);
    EXPECT_EQ(scene.sent[5].worker, WorkerId{0});
    EXPECT_EQ(scene.sent[5].examples, 8u);
    EXPECT_EQ(scene.sent[5].run, kRun);
    EXPECT_TRUE(scene.all<JoinEvent>().empty()) << "it has yet to load its data";
    scene.say(5, scene.hello(0, 1001));
    ASSERT_EQ(scene.type_to(5), MessageType::parameters);
    EXPECT_EQ(scene.sent[5].incarnation, Incarnation{4});
    EXPECT_EQ(scene.all<JoinEvent>().size(), 1u);
}

TEST(Elastic, WhereAWorkerRunsIsToldAndNothingElse) {
    Scene scene(elastic());
    Traits traits = kTraits;
    traits[kFrom] = "node7:4711\x1b[2J" + std::string(1000, 'x');
    scene.join(1, 1001);
    scene.say(1, scene.hello(0, 1001, traits));
    const auto joins = scene.all<JoinEvent>();
    ASSERT_EQ(joins.size(), 1u) << "it decides nothing";
    EXPECT_THAT(joins[0].from, testing::StartsWith("node7:4711?[2Jxxx"));
    EXPECT_LE(joins[0].from.size(), 200u);
}

TEST(Elastic, TheFirstFreePlaceIsTaken) {
    Scene scene(elastic());
    EXPECT_EQ(scene.enter(1, 1001).worker, WorkerId{0});
    EXPECT_EQ(scene.enter(2, 1002).worker, WorkerId{1});
    EXPECT_EQ(scene.enter(3, 1003).worker, WorkerId{2});
    EXPECT_EQ(scene.sent[3].data.part, 0u) << "of two parts";
    scene.join(4, 1004);
    ASSERT_EQ(scene.type_to(4), MessageType::refuse);
    EXPECT_EQ(scene.sent[4].reason, kComeAgain);
    EXPECT_THAT(scene.words_to(4), testing::HasSubstr("--workers-max"));
    scene.tell(PeerLeft{Peer{2}});
    EXPECT_EQ(scene.enter(4, 1004).worker, WorkerId{1});
}

TEST(Elastic, WhoGoesBeforeItIsLetInLeavesItsPlace) {
    Scene scene(elastic(1));
    scene.join(1, 1001);
    scene.tell(PeerLeft{Peer{1}});
    EXPECT_EQ(scene.enter(2, 1002).worker, WorkerId{0});
}

TEST(Elastic, TheSameProcessOverANewConnectionHasItsOldPlace) {
    Scene scene(elastic());
    scene.enter(1, 1001);
    const Message old = scene.enter(2, 1002);
    // The old connection is not known to be broken yet.
    const Message fresh = scene.enter(3, 1002);
    EXPECT_EQ(fresh.worker, WorkerId{1});
    EXPECT_EQ(fresh.step, old.step.next());
    EXPECT_EQ(scene.server().totals().lost, 1u);
    scene.say(2, scene.push(old));
    EXPECT_EQ(scene.type_to(2), MessageType::refuse);
    EXPECT_EQ(scene.server().totals().stray, 1u);
}

TEST(Elastic, ThePlaceOfASilentOneIsGivenAwayWhereThereIsNoOther) {
    Scene scene(elastic(2));
    scene.enter(1, 1001);
    scene.enter(2, 1002);
    scene.now = Time{900ms};
    scene.tell(PeerHeard{Peer{1}});
    scene.now = Time{1s};
    scene.tell(Timer{});
    ASSERT_EQ(scene.all<SuspectEvent>().size(), 1u);
    EXPECT_EQ(scene.enter(3, 1003).worker, WorkerId{1});
    EXPECT_EQ(scene.server().totals().lost, 1u);
    EXPECT_EQ(scene.all<LeaveEvent>().size(), 1u);
}

TEST(Elastic, AnotherModelIsRefusedInWords) {
    Scene scene(elastic());
    scene.join(1, 1001);
    scene.say(1, scene.hello(0, 1001, {{"model", "a resnet"}, {"training data", "mnist"}}));
    ASSERT_EQ(scene.type_to(1), MessageType::refuse);
    EXPECT_EQ(scene.sent[1].reason, Reason::malformed);
    EXPECT_EQ(scene.words_to(1), "model: a lenet on the server, a resnet on the worker");
    EXPECT_EQ(scene.enter(2, 1002).worker, WorkerId{0}) << "its place is free again";
}

TEST(Elastic, WhatIsNoHelloIsRefused) {
    for (const auto& spoil : std::vector<std::function<void(Message&)>>{
             [](Message& m) { m.process = 1; }, [](Message& m) { m.elements = 3; }, [](Message& m) { m.run = 1; },
             [](Message& m) { m.examples = 1000; }, [](Message& m) { m.worker = WorkerId{1}; },
             [](Message& m) { m.worker = WorkerId{1000}; }, [](Message& m) { m.payload.reset(); }}) {
        Scene scene(elastic());
        scene.join(1, 1001);
        Message hello = scene.hello(0, 1001);
        spoil(hello);
        scene.say(1, hello);
        EXPECT_EQ(scene.type_to(1), MessageType::refuse);
        EXPECT_TRUE(scene.all<JoinEvent>().empty());
    }
}

TEST(Elastic, AHelloWithoutAWelcomeIsRefused) {
    Scene scene(elastic());
    scene.say(1, scene.hello(0, 1001));
    EXPECT_EQ(scene.type_to(1), MessageType::refuse);
    EXPECT_TRUE(scene.all<JoinEvent>().empty());
}

TEST(Elastic, APushOfAnotherIncarnationIsStray) {
    Scene scene(elastic());
    Message push = scene.push(scene.enter(1, 1001));
    push.incarnation = Incarnation{3};
    scene.say(1, push);
    EXPECT_EQ(scene.server().totals().stray, 1u);
    EXPECT_EQ(scene.server().version(), Version{0});
}

TEST(Elastic, BeginsWithEnoughWorkersAndPausesBelow) {
    Scene scene(elastic(3, 2), "reuse", 2, 2);
    scene.enter(1, 1001);
    EXPECT_TRUE(scene.all<JoinEvent>().empty());
    const Message second = scene.enter(2, 1002);
    ASSERT_EQ(scene.all<JoinEvent>().size(), 2u);
    scene.tell(PeerLeft{Peer{1}});
    const auto pauses = scene.all<PauseEvent>();
    ASSERT_EQ(pauses.size(), 1u);
    EXPECT_EQ(pauses[0].active, 1u);
    EXPECT_EQ(pauses[0].needed, 2u);
    scene.say(2, scene.push(second));
    EXPECT_EQ(scene.server().version(), Version{0});
    const Message third = scene.enter(3, 1003);
    EXPECT_EQ(scene.all<ContinueEvent>().size(), 1u);
    EXPECT_EQ(scene.server().version(), Version{0}) << "one of two";
    scene.say(3, scene.push(third));
    EXPECT_EQ(scene.server().version(), Version{1});
    EXPECT_EQ(scene.type_to(2), MessageType::parameters);
}

TEST(Elastic, WaitsForWorkersWhenAllAreGone) {
    Scene scene(elastic());
    scene.enter(1, 1001);
    scene.tell(PeerLeft{Peer{1}});
    EXPECT_EQ(scene.server().outcome(), Outcome::running);
    EXPECT_EQ(scene.enter(1, 1001).step, Step{1});
}

TEST(Elastic, ASilentWorkerReturnsWithALateGradient) {
    Scene scene(elastic(), "reuse", 2);
    const Message first = scene.enter(1, 1001);
    const Message second = scene.enter(2, 1002);
    scene.now = Time{1s};
    scene.tell(PeerHeard{Peer{1}});
    EXPECT_EQ(scene.all<SuspectEvent>().size(), 1u);
    scene.say(1, scene.push(first)); // alone it is the quorum now
    EXPECT_EQ(scene.server().version(), Version{1});
    scene.say(2, scene.push(second));
    EXPECT_EQ(scene.all<ReturnEvent>().size(), 1u);
    EXPECT_EQ(scene.type_to(2), MessageType::parameters);
    EXPECT_EQ(scene.all<ArriveEvent>().back().reason, Reason::late);
    EXPECT_EQ(scene.server().totals().lost, 0u);
}

TEST(Elastic, WhoIsSilentForTooLongIsToldWhenItSpeaks) {
    Scene scene(elastic());
    const Message parameters = scene.enter(1, 1001);
    for (const Duration now : {1s, 5s}) {
        scene.now = Time{now};
        scene.tell(Timer{});
    }
    EXPECT_EQ(scene.all<LeaveEvent>().size(), 1u);
    EXPECT_EQ(scene.type_to(1), MessageType::refuse);
    scene.say(1, scene.push(parameters));
    EXPECT_EQ(scene.type_to(1), MessageType::refuse);
    EXPECT_EQ(scene.sent[1].reason, kComeAgain);
    EXPECT_EQ(scene.server().totals(), (LedgerTotals{.pushed = 1, .lost = 1, .stray = 1}));
}

TEST(Elastic, ABrokenWorkerIsExcluded) {
    ServerOptions options = elastic();
    options.quarantine_after = 3;
    Scene scene(options, "reuse", 2);
    scene.enter(1, 1001);
    Message parameters = scene.enter(2, 1002);
    for (int i = 0; i < 3; ++i) {
        ASSERT_EQ(parameters.type, MessageType::parameters);
        scene.tell(MessageArrived{.peer = Peer{2}, .message = scene.push(parameters), .defect = Reason::not_finite});
        parameters = scene.sent[2];
    }
    ASSERT_EQ(parameters.type, MessageType::refuse);
    EXPECT_EQ(parameters.reason, Reason::excluded);
    EXPECT_THAT(scene.words_to(2), testing::HasSubstr("not finite"));
    ASSERT_EQ(scene.all<ExcludeEvent>().size(), 1u);
    EXPECT_EQ(scene.all<ExcludeEvent>()[0].worker, WorkerId{1});
    EXPECT_EQ(scene.server().totals().dropped, 3u);
    scene.tell(PeerLeft{Peer{2}});
    scene.join(3, 1002);
    EXPECT_EQ(scene.type_to(3), MessageType::refuse) << "not the same process again";
    EXPECT_EQ(scene.enter(4, 1003).worker, WorkerId{1}) << "another one may";
}

/// Its connection may be another worker's by then.
TEST(Elastic, ABrokenWorkerThatHasLeftIsExcludedWithoutAWord) {
    ServerOptions options = elastic();
    options.quarantine_after = 1;
    Scene scene(options, "reuse", 1);
    scene.hold_updates = true;
    const Message first = scene.enter(1, 1001);
    const Message second = scene.enter(2, 1002);
    scene.say(1, scene.push(first));
    ASSERT_TRUE(scene.updating());
    scene.tell(MessageArrived{.peer = Peer{2}, .message = scene.push(second), .defect = Reason::not_finite});
    scene.tell(PeerLeft{Peer{2}});
    scene.finish_update();
    EXPECT_EQ(scene.all<ExcludeEvent>().size(), 1u);
    EXPECT_EQ(scene.all<LeaveEvent>().size(), 1u);
    EXPECT_EQ(scene.type_to(2), std::nullopt);
    EXPECT_EQ(scene.server().outcome(), Outcome::running) << "the other worker is here";
    scene.join(3, 1002);
    EXPECT_EQ(scene.type_to(3), MessageType::refuse);
    scene.tell(StopRequested{});
    EXPECT_FALSE(scene.effects().done);
    scene.tell(PeerLeft{Peer{1}});
    EXPECT_TRUE(scene.effects().done) << "nobody is left to say goodbye";
}

TEST(Elastic, ABrokenWorkerThatTheOthersWaitForDoesNotEndTheRun) {
    ServerOptions options = elastic();
    options.quarantine_after = 3;
    Scene scene(options, "sync");
    const Message first = scene.enter(1, 1001);
    Message second = scene.enter(2, 1002);
    scene.say(1, scene.push(first));
    for (int i = 0; i < 3; ++i) {
        ASSERT_EQ(second.type, MessageType::parameters);
        scene.tell(MessageArrived{.peer = Peer{2}, .message = scene.push(second), .defect = Reason::not_finite});
        second = scene.sent[2];
    }
    EXPECT_EQ(scene.server().outcome(), Outcome::running);
    EXPECT_EQ(scene.all<ExcludeEvent>().size(), 1u);
    EXPECT_EQ(scene.server().version(), Version{1}) << "the other one goes on alone";
}

TEST(Elastic, AGradientOutOfAllProportionIsDropped) {
    ServerOptions options = elastic();
    options.reject_norm = 10;
    Scene scene(options);
    Message parameters = scene.enter(1, 1001);
    for (std::size_t i = 0; i < NormLimit::kKnown + 1; ++i) {
        const double norm = i == NormLimit::kKnown ? 11 : 1;
        scene.tell(MessageArrived{.peer = Peer{1}, .message = scene.push(parameters), .norm = norm});
        parameters = scene.sent[1];
    }
    EXPECT_EQ(scene.server().totals().dropped, 1u);
    EXPECT_EQ(parameters.reason, Reason::too_large);
    EXPECT_EQ(scene.server().version(), Version{NormLimit::kKnown});
}

TEST(Elastic, PartsAreGivenToTheLiving) {
    Scene scene(elastic());
    scene.enter(1, 1001);
    scene.now = Time{500ms};
    scene.enter(2, 1002);
    scene.now = Time{700ms};
    scene.tell(PeerLeft{Peer{2}});
    for (; scene.now < Time{10700ms}; scene.now += 500ms) scene.tell(PeerHeard{Peer{1}});
    scene.tell(PeerHeard{Peer{1}});
    const auto parts = scene.all<PartEvent>();
    ASSERT_EQ(parts.size(), 1u);
    EXPECT_EQ(parts[0].part, 1u);
    EXPECT_EQ(parts[0].worker, WorkerId{0});
}

TEST(Elastic, WhoGoesWhileItsHelloWaitsLeavesItsPlace) {
    Scene scene(elastic(2));
    const Message first = scene.enter(1, 1001);
    scene.join(2, 1002);
    scene.hold_updates = true;
    scene.say(1, scene.push(first));
    scene.say(2, scene.hello(1, 1002));
    scene.tell(PeerLeft{Peer{2}});
    scene.finish_update();
    EXPECT_EQ(scene.all<JoinEvent>().size(), 1u);
    EXPECT_EQ(scene.enter(2, 1003).worker, WorkerId{1}) << "place and number are free again";
}

TEST(Elastic, WhatAConnectionThatIsGoneAskedForIsForgotten) {
    Scene scene(elastic(2));
    const Message first = scene.enter(1, 1001);
    scene.hold_updates = true;
    scene.say(1, scene.push(first));
    scene.join(2, 1002);
    scene.tell(PeerLeft{Peer{2}});
    scene.finish_update();
    EXPECT_EQ(scene.type_to(2), std::nullopt);
    EXPECT_EQ(scene.enter(3, 1003).worker, WorkerId{1});
}

TEST(Elastic, AProcessThatCameOverANewConnectionDuringAnUpdateKeepsItsPlace) {
    Scene scene(elastic(2));
    const Message first = scene.enter(1, 1001);
    scene.join(2, 1002);
    scene.hold_updates = true;
    scene.say(1, scene.push(first));
    scene.join(3, 1002); // the old connection is not known to be broken
    scene.say(2, scene.hello(1, 1002));
    scene.finish_update();
    ASSERT_EQ(scene.type_to(3), MessageType::welcome);
    EXPECT_EQ(scene.sent[3].worker, WorkerId{1});
    EXPECT_EQ(scene.type_to(2), std::nullopt);
}

TEST(Elastic, ASecondHelloDuringAnUpdateIsStray) {
    Scene scene(elastic(2));
    const Message first = scene.enter(1, 1001);
    scene.join(2, 1002);
    scene.hold_updates = true;
    scene.say(1, scene.push(first));
    for (int i = 0; i < 2; ++i) {
        scene.say(2, scene.hello(1, 1002));
        EXPECT_EQ(scene.type_to(2), std::nullopt) << "the parameters are being written";
    }
    EXPECT_EQ(scene.all<JoinEvent>().size(), 1u);
    EXPECT_EQ(scene.server().totals().stray, 1u);
    scene.finish_update();
    EXPECT_EQ(scene.type_to(2), MessageType::parameters);
    EXPECT_EQ(scene.all<JoinEvent>().size(), 2u);
}

TEST(Elastic, AHelloForAnothersPlaceIsRefusedDuringAnUpdateToo) {
    Scene scene(elastic(3));
    const Message first = scene.enter(1, 1001);
    scene.join(2, 1002);
    scene.join(3, 1003);
    scene.hold_updates = true;
    scene.say(1, scene.push(first));
    scene.say(2, scene.hello(2, 1002));
    EXPECT_EQ(scene.type_to(2), MessageType::refuse);
    scene.say(3, scene.hello(2, 1003));
    scene.finish_update();
    EXPECT_EQ(scene.type_to(3), MessageType::parameters);
    EXPECT_EQ(scene.enter(4, 1004).worker, WorkerId{1});
}

TEST(Elastic, WhoseNumberIsOfOneThatLeftDuringAnUpdateIsAnsweredAfterIt) {
    Scene scene(elastic(2));
    const Message first = scene.enter(1, 1001);
    const Message second = scene.enter(2, 1002);
    scene.hold_updates = true;
    scene.say(1, scene.push(first));
    scene.say(2, scene.push(second));
    scene.tell(PeerLeft{Peer{2}});
    scene.say(2, scene.hello(1, 1002)); // by who was not welcomed
    EXPECT_EQ(scene.type_to(2), MessageType::refuse);
    scene.join(2, 1003);
    EXPECT_EQ(scene.server().totals().stray, 1u) << "the hello";
    scene.finish_update();
    ASSERT_EQ(scene.type_to(2), MessageType::welcome);
    EXPECT_EQ(scene.sent[2].worker, WorkerId{1});
    EXPECT_EQ(scene.all<LeaveEvent>().size(), 1u);
    scene.say(2, scene.hello(1, 1003));
    EXPECT_EQ(scene.type_to(2), MessageType::parameters);
}

TEST(Elastic, AStallOfTheServerIsNobodysSilence) {
    Scene scene(elastic());
    scene.enter(1, 1001);
    scene.enter(2, 1002);
    scene.now = Time{900ms};
    for (const std::uint32_t peer : {1U, 2U}) scene.tell(PeerHeard{Peer{peer}});
    scene.now = Time{40s};
    scene.tell(PeerHeard{Peer{1}}); // the first of what has queued up
    EXPECT_TRUE(scene.all<SuspectEvent>().empty());
    scene.now += 10ms;
    scene.tell(PeerHeard{Peer{2}});
    scene.now += 1s;
    scene.tell(PeerHeard{Peer{1}});
    ASSERT_EQ(scene.all<SuspectEvent>().size(), 1u) << "from then on it counts";
    EXPECT_EQ(scene.all<SuspectEvent>()[0].worker, WorkerId{1});
    EXPECT_TRUE(scene.all<LeaveEvent>().empty());
}

TEST(Elastic, WhoComesDuringTheLastUpdateIsToldThatTheRunIsOver) {
    Scene scene(elastic(5));
    const Message first = scene.enter(1, 1001);
    scene.enter(6, 1006);
    scene.join(2, 1002);
    scene.join(4, 1004);
    scene.join(5, 1005);
    scene.hold_updates = true;
    scene.say(1, scene.push(first));
    scene.say(5, scene.hello(4, 1005));
    scene.join(3, 1003);
    scene.tell(PeerLeft{Peer{6}});
    scene.join(6, 1007);
    scene.tell(StopRequested{});
    scene.say(2, scene.hello(2, 1002));
    EXPECT_EQ(scene.type_to(2), MessageType::stop);
    scene.finish_update();
    for (const std::uint32_t peer : {1U, 3U, 4U, 5U, 6U}) EXPECT_EQ(scene.type_to(peer), MessageType::stop) << peer;
    EXPECT_EQ(scene.effects().sends.size(), 5u) << "once each";
    scene.join(7, 1008);
    EXPECT_EQ(scene.type_to(7), MessageType::stop);
}

TEST(Elastic, WhoIsWelcomedWhenTheRunEndsIsToldSo) {
    Scene scene(elastic(2));
    scene.enter(1, 1001);
    scene.join(2, 1002);
    scene.tell(StopRequested{});
    EXPECT_EQ(scene.type_to(2), MessageType::stop);
}

TEST(Elastic, APauseKeepsNothingOfThoseWhoAreGone) {
    Scene scene(elastic(2), "reuse", 2, 2);
    const Message first = scene.enter(1, 1001);
    scene.enter(2, 1002);
    scene.tell(PeerLeft{Peer{2}});
    ASSERT_EQ(scene.all<PauseEvent>().size(), 2u) << "the first one was for the second worker";
    const Message push = scene.push(first);
    scene.say(1, push);
    EXPECT_FALSE(push.payload.unique()) << "it waits";
    scene.tell(PeerLeft{Peer{1}});
    EXPECT_TRUE(push.payload.unique());
    EXPECT_EQ(scene.server().totals(), (LedgerTotals{.pushed = 2, .lost = 2}));
}

TEST(Elastic, APlaceIsNotKeptForEverForWhoIsWelcomed) {
    Scene scene(elastic(1));
    scene.join(1, 1001); // and is never heard again, though its connection lives
    scene.join(2, 1002);
    EXPECT_EQ(scene.type_to(2), MessageType::refuse);
    scene.now += 5min;
    scene.join(2, 1002);
    EXPECT_EQ(scene.type_to(2), MessageType::welcome);
    EXPECT_EQ(scene.type_to(1), MessageType::refuse);
    scene.say(1, scene.hello(0, 1001));
    EXPECT_TRUE(scene.all<JoinEvent>().empty());
    scene.say(2, scene.hello(0, 1002));
    EXPECT_EQ(scene.all<JoinEvent>().size(), 1u);
}

/// Whatever anybody says, in any order: the ledger adds up, no event is about a worker that is not here, and who has
/// gone has left its place.
RC_GTEST_PROP(Elastic, AnythingMayBeSaid, ()) {
    ServerOptions options = elastic(*rc::gen::inRange<std::size_t>(1, 5), 1);
    options.workers_start = *rc::gen::inRange<std::size_t>(1, options.workers + 1);
    options.quarantine_after = *rc::gen::element(0U, 2U);
    const auto workers_min = *rc::gen::inRange<std::size_t>(1, options.workers + 1);
    const auto policy = *rc::gen::element<std::string>("sync", "backup", "reuse", "kasync", "kbatch", "async", "ssp:1");
    Scene scene(options, policy.c_str(), 1 + options.workers / 2, workers_min);
    scene.hold_updates = *rc::gen::arbitrary<bool>();
    std::map<std::uint32_t, Message> last; // what each peer was sent to work on
    const int events = *rc::gen::inRange(0, 150);
    for (int i = 0; i < events; ++i) {
        const auto peer = *rc::gen::inRange<std::uint32_t>(1, 7);
        const std::uint64_t process = 1000 + *rc::gen::inRange<std::uint64_t>(0, 6);
        scene.now += *rc::gen::element(Duration(0), Duration(100ms), Duration(700ms));
        switch (*rc::gen::inRange(0, 11)) {
        case 0: scene.join(peer, process); break;
        case 1: scene.say(peer, scene.hello(*rc::gen::inRange(0U, 5U), process)); break;
        case 2: scene.tell(PeerLeft{Peer{peer}}); break;
        case 3: scene.tell(PeerHeard{Peer{peer}}); break;
        case 4: scene.tell(Timer{}); break;
        case 5:
        case 6: {
            if (!last.contains(peer)) break;
            const Message push = scene.push(last[peer]);
            const Reason defect = *rc::gen::element(Reason::none, Reason::none, Reason::not_finite);
            scene.tell(MessageArrived{.peer = Peer{peer}, .message = push, .defect = defect});
            break;
        }
        case 7:
            scene.join(peer, process);
            if (scene.type_to(peer) == MessageType::welcome) {
                scene.say(peer, scene.hello(scene.sent[peer].worker.value(), process));
            }
            break;
        case 8: scene.say(peer, {.type = MessageType::goodbye}); break;
        case 9: scene.say(peer, {.type = static_cast<MessageType>(*rc::gen::inRange(1, 10)), .run = kRun}); break;
        case 10:
            if (scene.updating()) scene.finish_update();
            break;
        }
        for (const auto& [to, message] : scene.sent) {
            if (message.type == MessageType::parameters) last[to] = message;
        }
        RC_ASSERT(scene.server().totals().adds_up());
    }
    scene.hold_updates = false;
    if (scene.updating()) scene.finish_update();
    for (std::uint32_t peer = 1; peer < 7; ++peer) scene.tell(PeerLeft{Peer{peer}});
    if (scene.server().outcome() == Outcome::running) { // places and numbers are free again
        for (std::uint32_t i = 0; i < options.workers; ++i) {
            scene.join(1 + i, 2000 + i);
            RC_ASSERT(scene.type_to(1 + i) == MessageType::welcome);
        }
    }
    scene.tell(StopRequested{});
    RC_ASSERT(scene.server().totals().adds_up());
    RC_ASSERT(scene.server().totals().open == 0u);
    std::size_t here = 0;
    for (const RunEvent& event : scene.events) {
        if (std::holds_alternative<JoinEvent>(event.body)) ++here;
        if (std::holds_alternative<LeaveEvent>(event.body)) RC_ASSERT(here-- > 0u);
        RC_ASSERT(here <= options.workers);
    }
}

} // namespace
} // namespace lategrad
