#include "lategrad/server/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <span>

#include "tests/support/virtual_cluster.h"

namespace lategrad {
namespace {

constexpr Duration kStep = std::chrono::seconds(1);

/// Two workers, one second for each gradient, no end.
VirtualClusterOptions steady(const char* policy = "sync") {
    VirtualClusterOptions options;
    options.policy.parse_kind(policy);
    options.examples = {4, 4};
    options.initial = {1, 2};
    options.server.learning_rate = 0.25;
    options.server.epoch_examples = 16;
    options.gradient = [](WorkerId, Step, std::span<const float> params, std::span<float> grad) {
        std::copy(params.begin(), params.end(), grad.begin());
        return 1.0;
    };
    options.duration = [](WorkerId, Step) { return kStep; };
    return options;
}

Time after(double steps) {
    return Time{} + from_seconds(steps * seconds(kStep));
}

Outcome told_outcome(const VirtualCluster& cluster) {
    const auto ends = cluster.all<EndEvent>();
    EXPECT_EQ(ends.size(), 1u);
    return ends.empty() ? Outcome::running : ends[0].outcome;
}

void expect_ended(const VirtualCluster& cluster, Outcome outcome, std::uint64_t version) {
    EXPECT_TRUE(cluster.done());
    EXPECT_EQ(cluster.server().outcome(), outcome);
    EXPECT_EQ(told_outcome(cluster), outcome);
    EXPECT_EQ(cluster.server().version(), Version{version});
    EXPECT_TRUE(cluster.server().totals().adds_up());
    EXPECT_EQ(cluster.server().totals().open, 0u);
}

// Ends of a run.

TEST(ServerEnds, AfterSoManyUpdates) {
    auto options = steady();
    options.server.updates = 3;
    VirtualCluster cluster(options);
    ASSERT_TRUE(cluster.run());
    expect_ended(cluster, Outcome::updates, 3);
    EXPECT_EQ(cluster.now(), after(3)); // nothing was begun beyond them
    EXPECT_EQ(cluster.server().totals(), (LedgerTotals{.pushed = 6, .applied = 6}));
    EXPECT_THAT(cluster.parameters(), testing::ElementsAre(0.421875f, 0.84375f)); // (3/4)³ of the initial ones
}

TEST(ServerEnds, BeforeTheFirstOfNoUpdates) {
    auto options = steady();
    options.server.updates = 0;
    VirtualCluster cluster(options);
    ASSERT_TRUE(cluster.run());
    expect_ended(cluster, Outcome::updates, 0);
    EXPECT_EQ(cluster.server().totals(), (LedgerTotals{.pushed = 2, .lost = 2}));
}

TEST(ServerEnds, AfterSoManyEpochsOfAppliedExamples) {
    auto options = steady();
    options.server.epochs = 1.6; // 25.6 examples; an update has 8
    VirtualCluster cluster(options);
    ASSERT_TRUE(cluster.run());
    expect_ended(cluster, Outcome::epochs, 4);
    EXPECT_EQ(cluster.server().examples_applied(), 32u);
}

TEST(ServerEnds, AtTheTimeLimit) {
    auto options = steady();
    options.server.time_limit = from_seconds(2.5);
    VirtualCluster cluster(options);
    ASSERT_TRUE(cluster.run());
    expect_ended(cluster, Outcome::time_limit, 2);
    EXPECT_EQ(cluster.all<LostEvent>().size(), 2u);
    for (const LostEvent& lost : cluster.all<LostEvent>()) EXPECT_EQ(lost.reason, Reason::run_ended);
    EXPECT_EQ(cluster.now(), after(2.5));
}

TEST(ServerEnds, AtTheTimeLimitWithTheUpdateThatIsUnderWay) {
    auto options = steady();
    options.update_duration = kStep;
    options.server.time_limit = from_seconds(1.5);
    VirtualCluster cluster(options);
    ASSERT_TRUE(cluster.run());
    expect_ended(cluster, Outcome::time_limit, 1);
    EXPECT_EQ(cluster.now(), after(2));
    EXPECT_EQ(cluster.server().totals(), (LedgerTotals{.pushed = 2, .applied = 2}));
}

TEST(ServerEnds, AtATimeLimitThatCountsFromWhenAllWorkersAreThere) {
    auto options = steady();
    options.server.time_limit = from_seconds(1.5);
    options.latency = from_seconds(2); // of the hellos, too
    VirtualCluster cluster(options);
    ASSERT_TRUE(cluster.run());
    expect_ended(cluster, Outcome::time_limit, 0);
    EXPECT_EQ(cluster.server().lasted(), from_seconds(1.5));
}

TEST(ServerEnds, AtTheTargetAccuracy) {
    auto options = steady();
    options.server.target_accuracy = 0.9;
    options.server.eval_every = 2;
    std::vector<Snapshot> snapshots;
    options.evaluate = [&](const Snapshot& snapshot) { snapshots.push_back(snapshot); };
    VirtualCluster cluster(options);
    cluster.tell_server(after(2.5), EvaluationDone{{.version = Version{2}, .accuracy = 0.89}});
    cluster.tell_server(after(4.5), EvaluationDone{{.version = Version{4}, .accuracy = 0.9}});
    ASSERT_TRUE(cluster.run());
    expect_ended(cluster, Outcome::target_accuracy, 4);
    EXPECT_EQ(cluster.all<Evaluation>().size(), 2u);
    ASSERT_EQ(snapshots.size(), 2u); // the last version is the second one
    EXPECT_EQ(snapshots[0].version, Version{2});
    EXPECT_EQ(snapshots[0].at, after(2));
    EXPECT_EQ(snapshots[0].examples_applied, 16u);
    EXPECT_EQ(std::as_const(snapshots[0].params).floats()[0], 0.5625f); // untouched by later updates
    EXPECT_EQ(snapshots[1].version, Version{4});
}

TEST(ServerEnds, WithASnapshotOfTheLastVersion) {
    auto options = steady();
    options.server.updates = 5;
    options.server.eval_every = 2;
    std::vector<std::uint64_t> versions;
    options.evaluate = [&](const Snapshot& snapshot) { versions.push_back(snapshot.version.value()); };
    VirtualCluster cluster(options);
    ASSERT_TRUE(cluster.run());
    EXPECT_THAT(versions, testing::ElementsAre(2, 4, 5));
}

TEST(ServerEnds, WhenAllWorkersAreGone) {
    VirtualCluster cluster(steady());
    cluster.kill(WorkerId{0}, after(1.5));
    cluster.kill(WorkerId{1}, after(3.5));
    ASSERT_TRUE(cluster.run());
    expect_ended(cluster, Outcome::no_workers, 3);
    EXPECT_EQ(cluster.server().totals(), (LedgerTotals{.pushed = 6, .applied = 4, .lost = 2}));
    for (const LostEvent& lost : cluster.all<LostEvent>()) EXPECT_EQ(lost.reason, Reason::worker_gone);
    EXPECT_EQ(cluster.all<LeaveEvent>().size(), 2u);
}

TEST(ServerEnds, WhenAllWorkersGoDuringAnUpdate) {
    auto options = steady();
    options.update_duration = kStep;
    VirtualCluster cluster(options);
    cluster.kill(WorkerId{0}, after(1.5));
    cluster.kill(WorkerId{1}, after(1.5));
    ASSERT_TRUE(cluster.run());
    expect_ended(cluster, Outcome::no_workers, 1);
}

TEST(ServerEnds, WhenAskedTo) {
    VirtualCluster cluster(steady());
    cluster.tell_server(after(1.5), StopRequested{});
    ASSERT_TRUE(cluster.run());
    expect_ended(cluster, Outcome::interrupted, 1);
}

TEST(ServerEnds, WhenAskedToBeforeTheBeginning) {
    auto options = steady();
    options.latency = kStep;
    VirtualCluster cluster(options);
    cluster.tell_server(after(0.5), StopRequested{});
    ASSERT_TRUE(cluster.run());
    expect_ended(cluster, Outcome::interrupted, 0);
}

TEST(ServerEnds, WhenEveryGradientIsUnusable) {
    auto options = steady();
    options.gradient = [](WorkerId, Step step, std::span<const float>, std::span<float> grad) {
        grad[0] = 0;
        grad[1] = step == Step{0} ? 1 : std::numeric_limits<float>::infinity();
        return 1.0;
    };
    VirtualCluster cluster(options);
    ASSERT_TRUE(cluster.run());
    expect_ended(cluster, Outcome::diverged, 1);
    const auto arrivals = cluster.all<ArriveEvent>();
    ASSERT_EQ(arrivals.size(), 6u); // both fresh ones, then two unusable ones of each worker
    EXPECT_EQ(arrivals[5].fate, Fate::drop);
    EXPECT_EQ(arrivals[5].reason, Reason::not_finite);
}

/// Worker 1 is broken: all its gradients are NaNs.
VirtualClusterOptions with_a_broken_worker(const char* policy) {
    auto options = steady(policy);
    options.policy.wait_for = 1;
    options.server.updates = 20;
    options.gradient = [](WorkerId worker, Step, std::span<const float> params, std::span<float> grad) {
        std::copy(params.begin(), params.end(), grad.begin());
        if (worker == WorkerId{1}) grad[0] = std::numeric_limits<float>::quiet_NaN();
        return 1.0;
    };
    // It fails ten times while the other one computes once.
    options.duration = [](WorkerId worker, Step) { return worker == WorkerId{1} ? kStep / 10 : kStep; };
    return options;
}

TEST(ServerEnds, NotForABrokenWorkerThatTheOthersCanDoWithout) {
    VirtualCluster cluster(with_a_broken_worker("reuse"));
    ASSERT_TRUE(cluster.run());
    expect_ended(cluster, Outcome::updates, 20);
}

TEST(ServerEnds, WhenAllOthersWaitForABrokenWorker) {
    VirtualCluster cluster(with_a_broken_worker("sync"));
    ASSERT_TRUE(cluster.run());
    expect_ended(cluster, Outcome::diverged, 0);
}

TEST(ServerEnds, WithoutWaitingForeverForGoodbyes) {
    auto options = steady();
    options.server.updates = 0;
    options.latency = std::chrono::hours(1);
    VirtualCluster cluster(options);
    ASSERT_TRUE(cluster.run());
    EXPECT_EQ(cluster.now(), Time{} + std::chrono::hours(1) + std::chrono::seconds(30));
}

// Who takes part.

TEST(ServerMembers, BeginWhenAllAreThere) {
    auto options = steady();
    options.server.updates = 1;
    VirtualCluster cluster(options);
    ASSERT_TRUE(cluster.run());
    const auto joins = cluster.all<JoinEvent>();
    ASSERT_EQ(joins.size(), 2u);
    EXPECT_EQ(joins[1].worker, WorkerId{1});
    EXPECT_EQ(joins[1].examples, 4u);
}

/// A server alone, and what it answers.
class LoneServer : public testing::Test {
  protected:
    LoneServer() {
        ServerOptions options{.workers = 2, .run = 5, .trainable = 2, .size = 2};
        Buffer initial = versions_.lease(2 * sizeof(float));
        std::fill(initial.floats().begin(), initial.floats().end(), 1.0f);
        server_.emplace(options, make_policy({.kind = "sync"}), *codec_, *optimizer_, initial, versions_);
    }

    /// What the server says to it.
    const Effects& handle(const Event& event) {
        effects_.clear();
        server_->handle(event, Time{}, effects_);
        return effects_;
    }
    const Effects& say(std::uint32_t peer, Message message) {
        return handle(MessageArrived{.peer = Peer{peer}, .message = std::move(message)});
    }
    static Message hello(std::uint32_t worker) {
        return {.type = MessageType::hello, .worker = WorkerId{worker}, .run = 5, .examples = 3, .elements = 2};
    }
    Message push(std::uint32_t worker, std::uint64_t step, std::uint64_t version) {
        Buffer payload = payloads_.lease(2 * sizeof(float));
        std::fill(payload.floats().begin(), payload.floats().end(), 1.0f);
        return {.type = MessageType::push,
                .worker = WorkerId{worker},
                .run = 5,
                .step = Step{step},
                .version = Version{version},
                .examples = 3,
                .payload = payload};
    }
    void begin() {
        say(1, hello(0));
        say(2, hello(1));
    }
    std::uint64_t strays() const { return server_->totals().stray; }

    std::unique_ptr<Codec> codec_ = make_codec("none", {.elements = 2});
    std::unique_ptr<Optimizer> optimizer_ = make_optimizer({}, 2);
    BufferPool versions_{1024};
    BufferPool payloads_{1024};
    ThreadPool pool_{1};
    std::optional<Server> server_;
    Effects effects_;
};

TEST_F(LoneServer, SendsParametersOnceAllAreThere) {
    EXPECT_TRUE(say(1, hello(0)).sends.empty());
    const Effects& out = say(2, hello(1));
    ASSERT_EQ(out.sends.size(), 2u);
    EXPECT_EQ(out.sends[0].to, Peer{1});
    EXPECT_EQ(out.sends[1].to, Peer{2});
    EXPECT_EQ(out.sends[1].message.type, MessageType::parameters);
    EXPECT_EQ(out.sends[1].message.worker, WorkerId{1});
    EXPECT_EQ(out.sends[1].message.run, 5u);
}

TEST_F(LoneServer, RefusesAHelloThatDoesNotFit) {
    say(1, hello(0));
    const auto refused = [&](std::uint32_t peer, const Message& message) {
        const Effects& out = say(peer, message);
        return out.sends.size() == 1 && out.sends[0].to == Peer{peer} && out.sends[0].message.type == MessageType::stop;
    };
    Message other = hello(1);
    other.elements = 3;
    EXPECT_TRUE(refused(2, other)) << "a model of another size";
    other = hello(1);
    other.run = 6;
    EXPECT_TRUE(refused(2, other)) << "another run";
    other = hello(1);
    other.examples = 0;
    EXPECT_TRUE(refused(2, other)) << "no batch";
    EXPECT_TRUE(refused(2, hello(2))) << "a worker too many";
    EXPECT_TRUE(refused(2, hello(0))) << "a worker that is there already";
    EXPECT_TRUE(say(1, hello(1)).sends.empty()) << "a member that says so again is one, and stays one";
    EXPECT_EQ(strays(), 6u);
    EXPECT_EQ(say(2, hello(1)).sends.size(), 2u) << "the right one still may come";
    EXPECT_TRUE(refused(3, hello(2))) << "too late";
}

TEST_F(LoneServer, EndsWhenAnyLeavesBeforeTheBeginning) {
    say(1, hello(0));
    const Effects& out = handle(PeerLeft{Peer{2}});
    EXPECT_EQ(server_->outcome(), Outcome::no_workers);
    ASSERT_EQ(out.sends.size(), 1u);
    EXPECT_EQ(out.sends[0].to, Peer{1});
    EXPECT_EQ(out.sends[0].message.type, MessageType::stop);
    EXPECT_FALSE(out.done);
    EXPECT_TRUE(say(1, {.type = MessageType::goodbye}).done);
}

TEST_F(LoneServer, TakesAPushOnlyForTheAssignmentItGave) {
    begin();
    Message other_run = push(0, 0, 0);
    other_run.run = 6;
    for (const auto& [peer, message] : std::vector<std::pair<std::uint32_t, Message>>{
             {1, other_run}, {1, push(1, 0, 0)}, {7, push(0, 0, 0)}, {1, push(0, 1, 0)}, {1, push(0, 0, 1)}}) {
        EXPECT_TRUE(say(peer, message).events.empty());
    }
    EXPECT_EQ(strays(), 5u);
    EXPECT_EQ(say(1, push(0, 0, 0)).events.size(), 1u);
    EXPECT_TRUE(say(1, push(0, 0, 0)).events.empty()) << "the same once more";
    EXPECT_EQ(strays(), 6u);

    UpdateTask* update = say(2, push(1, 0, 0)).start_update;
    ASSERT_TRUE(update);
    update->run(pool_);
    EXPECT_EQ(handle(UpdateDone{}).sends.size(), 2u);
    // Full synchrony has no place for a gradient of a version that was not given out.
    EXPECT_TRUE(say(1, push(0, 1, 0)).events.empty());
    EXPECT_EQ(strays(), 7u);
}

TEST_F(LoneServer, KeepsNothingOfAPushThatComesTwiceDuringAnUpdate) {
    begin();
    say(1, push(0, 0, 0));
    UpdateTask* update = say(2, push(1, 0, 0)).start_update;
    ASSERT_TRUE(update);
    const std::size_t before = payloads_.bytes_allocated();
    for (int i = 0; i < 50; ++i) say(1, push(0, 0, 0));
    EXPECT_LE(payloads_.bytes_allocated(), before + 2 * sizeof(float));
    update->run(pool_);
    handle(UpdateDone{});
    EXPECT_EQ(strays(), 50u);
}

TEST_F(LoneServer, TellsAWorkerWhatBecameOfItsGradient) {
    const auto told = [](const Effects& out, std::size_t i) {
        return std::pair(out.sends.at(i).message.fate, out.sends.at(i).message.reason);
    };
    begin();
    const Effects& rejected =
        handle(MessageArrived{.peer = Peer{1}, .message = push(0, 0, 0), .defect = Reason::not_finite});
    EXPECT_EQ(told(rejected, 0), std::pair(Fate::drop, Reason::not_finite));
    say(1, push(0, 1, 0));
    say(2, push(1, 0, 0)).start_update->run(pool_);
    const Effects& published = handle(UpdateDone{});
    EXPECT_EQ(told(published, 0), std::pair(Fate::apply, Reason::fresh));
    EXPECT_EQ(told(published, 1), std::pair(Fate::apply, Reason::fresh));
}

// The arithmetic at its edge.

TEST(ServerUpdates, ChangeNothingWhereEveryLateWeightHasVanished) {
    // Two workers in step: the first gradient is fresh, all others are one update late, and e^-1000 is 0. So is then D,
    // the sum of the weights.
    auto options = steady("async");
    options.policy.late_weight = LateWeight::parse("exp:1000");
    options.policy.normalize = Normalize::weights;
    options.server.updates = 10;
    VirtualCluster cluster(options);
    ASSERT_TRUE(cluster.run());
    EXPECT_EQ(cluster.all<UpdateEvent>()[1].denominator, 0);
    EXPECT_EQ(cluster.parameters(), (std::vector<float>{0.75f, 1.5f}));
}

// Memory of the published versions.

TEST(ServerVersions, AreUpdatedInPlaceWhenNobodyElseHoldsThem) {
    // Full synchrony: at the close nobody computes on the version any more.
    auto options = steady();
    options.server.updates = 50;
    VirtualCluster cluster(options);
    ASSERT_TRUE(cluster.run());
    EXPECT_EQ(cluster.version_buffers(), 1u);
}

TEST(ServerVersions, AreWrittenBesideWhenSomebodyComputesOnThem) {
    // The slow worker computes on an old version while the fast one makes a hundred new ones.
    auto options = steady("reuse");
    options.policy.wait_for = 1;
    options.server.updates = 100;
    options.duration = [](WorkerId worker, Step) { return from_seconds(worker == WorkerId{0} ? 1 : 12.5); };
    VirtualCluster cluster(options);
    ASSERT_TRUE(cluster.run());
    EXPECT_EQ(cluster.version_buffers(), 2u);
}

TEST(ServerVersions, AreWrittenBesideASnapshot) {
    auto options = steady();
    options.server.updates = 50;
    options.server.eval_every = 10;
    std::optional<Snapshot> newest;
    options.evaluate = [&](const Snapshot& snapshot) { newest = snapshot; };
    VirtualCluster cluster(options);
    ASSERT_TRUE(cluster.run());
    EXPECT_EQ(cluster.version_buffers(), 2u);
}

} // namespace
} // namespace lategrad
