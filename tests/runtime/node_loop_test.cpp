/// The loop against a transport and a node that do as the test says.
#include "lategrad/runtime/node_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace lategrad {
namespace {

using testing::ElementsAre;

class FakeClock final : public Clock {
  public:
    Time now() const override { return time; }
    Time time{};
};

/// Every receive takes the next step of the script; after the last one, time passes until the deadline.
class FakeTransport final : public Transport {
  public:
    explicit FakeTransport(FakeClock& clock) : clock_(clock) {}

    SendStatus try_send(Peer to, const Message& message) override {
        if (busy.contains(to)) return SendStatus::busy;
        sent.emplace_back(to, message);
        return SendStatus::sent;
    }
    std::optional<Incoming> receive(Time deadline) override {
        if (++received > 1000) throw std::logic_error("the loop does not end");
        if (next_ == script.size()) {
            clock_.time = std::max(clock_.time, deadline);
            return std::nullopt;
        }
        return script[next_++]();
    }
    void forget(Peer) override {}
    void wake() override { ++woken; }
    void shutdown(Time) override {}

    /// What has left, as "peer type version".
    std::vector<std::string> said() const {
        std::vector<std::string> out;
        for (const auto& [to, message] : sent) {
            const bool stop = message.type == MessageType::stop;
            out.push_back(std::to_string(to.value()) +
                          (stop ? " stop" : " v" + std::to_string(message.version.value())));
        }
        return out;
    }

    std::vector<std::function<std::optional<Incoming>()>> script;
    std::set<Peer> busy;
    std::vector<std::pair<Peer, Message>> sent;
    int received = 0;
    int woken = 0;

  private:
    FakeClock& clock_;
    std::size_t next_ = 0;
};

class FakeNode final : public Node {
  public:
    void handle(const Event& event, Time now, Effects& out) override {
        if (on_event) on_event(event, now, out);
    }
    std::function<void(const Event&, Time, Effects&)> on_event;
};

class NodeLoopTest : public testing::Test {
  protected:
    void run(NodeHands hands = {}) { NodeLoop(node_, transport_, clock_, mailbox_, std::move(hands)).run(); }

    /// A step of the script in which `effects` is what the node wants.
    void then(std::function<void(Effects&)> effects) {
        transport_.script.push_back([this, effects = std::move(effects)] {
            node_.on_event = [=](const Event& event, Time, Effects& out) {
                if (std::holds_alternative<MessageArrived>(event)) effects(out);
            };
            return Received{Peer{9}, {}};
        });
    }
    /// A step in which only the world changes.
    void meanwhile(std::function<void()> change) {
        transport_.script.push_back([change = std::move(change)]() -> std::optional<Incoming> {
            change();
            return std::nullopt;
        });
    }
    static Send parameters(std::uint32_t peer, std::uint64_t version) {
        return {Peer{peer}, {.type = MessageType::parameters, .version = Version{version}}};
    }
    static Send stop(std::uint32_t peer) { return {Peer{peer}, {.type = MessageType::stop}}; }

    FakeClock clock_;
    FakeTransport transport_{clock_};
    Mailbox mailbox_{transport_};
    FakeNode node_;
};

TEST_F(NodeLoopTest, BeginsWithATimer) {
    node_.on_event = [](const Event& event, Time, Effects& out) { out.done = std::holds_alternative<Timer>(event); };
    run();
    EXPECT_EQ(transport_.received, 0);
}

TEST_F(NodeLoopTest, KeepsOrderAndOnlyTheLatestParametersForABusyPeer) {
    transport_.busy = {Peer{1}};
    then([](Effects& out) { out.sends = {parameters(1, 1), parameters(2, 1)}; });
    then([](Effects& out) { out.sends = {parameters(1, 2), parameters(2, 2)}; });
    then([](Effects& out) { out.sends = {parameters(1, 3)}; });
    then([](Effects& out) {
        out.sends = {stop(1), stop(2)};
        out.done = true;
    });
    meanwhile([] {});
    meanwhile([this] { transport_.busy.clear(); });
    run();
    EXPECT_THAT(transport_.said(), ElementsAre("2 v1", "2 v2", "2 stop", "1 v3", "1 stop"));
}

TEST_F(NodeLoopTest, SendsNothingPastAMessageThatWaits) {
    transport_.busy = {Peer{1}};
    then([](Effects& out) { out.sends = {stop(1)}; });
    then([this](Effects& out) {
        transport_.busy.clear(); // room again, but the first one has not left yet
        transport_.sent.clear();
        out.sends = {parameters(1, 7)};
        out.done = true;
    });
    run();
    EXPECT_THAT(transport_.said(), ElementsAre("1 stop", "1 v7"));
}

TEST_F(NodeLoopTest, ForgetsWhatWaitedForAPeerThatIsGone) {
    transport_.busy = {Peer{1}};
    then([](Effects& out) { out.sends = {parameters(1, 1)}; });
    transport_.script.push_back([this] {
        node_.on_event = [](const Event& event, Time, Effects& out) {
            if (const auto* left = std::get_if<PeerLeft>(&event)) out.done = left->peer == Peer{1};
        };
        return PeerGone{Peer{1}};
    });
    run();
    EXPECT_TRUE(transport_.sent.empty());
}

TEST_F(NodeLoopTest, WakesItsNodeWhenItAskedForThat) {
    std::vector<double> timers;
    node_.on_event = [&](const Event& event, Time now, Effects& out) {
        if (std::holds_alternative<Timer>(event)) timers.push_back(seconds(now));
        out.wake_at = now + std::chrono::seconds(5);
        out.done = timers.size() == 4;
    };
    run();
    EXPECT_THAT(timers, ElementsAre(0, 5, 10, 15));
}

TEST_F(NodeLoopTest, GivesUpOnAPeerThatTakesNoFarewell) {
    transport_.busy = {Peer{1}};
    then([this](Effects& out) {
        out.sends = {stop(1)};
        out.wake_at = clock_.time + std::chrono::seconds(30);
        out.done = true;
    });
    run();
    EXPECT_EQ(clock_.time, Time{} + std::chrono::seconds(30));
    EXPECT_TRUE(transport_.sent.empty());
}

TEST_F(NodeLoopTest, ValidatesPushesAsTheyArrive) {
    Reason defect = Reason::none;
    transport_.script.push_back([&] {
        node_.on_event = [&](const Event& event, Time, Effects& out) {
            if (const auto* arrived = std::get_if<MessageArrived>(&event)) {
                defect = arrived->defect;
                out.done = true;
            }
        };
        return Received{Peer{1}, {.type = MessageType::push}};
    });
    run({.validate = [](MessageArrived& arrived) { arrived.defect = Reason::not_finite; }});
    EXPECT_EQ(defect, Reason::not_finite);
}

TEST_F(NodeLoopTest, HandlesWhatOtherThreadsPosted) {
    node_.on_event = [](const Event& event, Time, Effects& out) {
        out.done = std::holds_alternative<StopRequested>(event);
    };
    mailbox_.post(StopRequested{});
    EXPECT_EQ(transport_.woken, 1);
    run();
    EXPECT_EQ(transport_.received, 1);
}

TEST_F(NodeLoopTest, GivesUpTheOldGradientBeforeItStartsTheNext) {
    std::vector<std::string> done;
    then([](Effects& out) {
        out.start_compute = ComputeJob{};
        out.cancel_compute = true;
        out.evaluate = Snapshot{};
        out.sends = {stop(1)};
        out.done = true;
    });
    run({.start_compute = [&](const ComputeJob&) { done.push_back("start"); },
         .cancel_compute = [&] { done.push_back("cancel"); },
         .evaluate =
             [&](const Snapshot&) {
                 EXPECT_EQ(transport_.sent.size(), 1u) << "messages leave first";
                 done.push_back("evaluate");
             }});
    EXPECT_THAT(done, ElementsAre("cancel", "start", "evaluate"));
}

} // namespace
} // namespace lategrad
