#include "lategrad/transport/in_process.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>
#include <vector>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

/// One message on its way, or (gone) the news that nothing more comes from this peer.
struct Entry {
    Peer from;
    bool gone = false;
    Header header{};
    Buffer payload;
};

/// What lies before one peer, in order of arrival over all senders.
struct Inbox {
    /// The way from one sender.
    struct Way {
        std::size_t queued = 0;
        bool refused = false;   ///< a message found it busy since it last had room
        bool forgotten = false; ///< by the receiver
    };

    std::vector<Entry> ring; ///< room for everything that all senders may have on the way, and their departures
    std::size_t first = 0;
    std::size_t count = 0;
    std::vector<Way> ways; ///< by sender; a worker's only sender is the server, peer 0
    std::condition_variable changed;
    bool woken = false;
    bool writable = false; ///< a way that was busy to this peer has room again
    bool closed = false;
    bool claimed = false;

    void open(std::size_t senders) {
        ring.resize(senders * (InProcessHub::kQueuedMax + 1));
        ways.resize(senders);
    }

    Entry& push() {
        CHECK(count < ring.size());
        return ring[(first + count++) % ring.size()];
    }

    const Entry& next() const { return ring[first]; }

    Entry pop() {
        Entry entry = std::move(ring[first]);
        first = (first + 1) % ring.size();
        --count;
        return entry;
    }
};

} // namespace

/// One lock for all: what happens under it is a few assignments, some hundred times per second and worker.
struct InProcessHub::State {
    State(std::size_t workers, const Clock& run_clock) : clock(run_clock), inboxes(workers + 1) {
        inboxes[0].open(workers + 1);
        for (std::size_t i = 1; i <= workers; ++i) inboxes[i].open(1);
    }

    /// The server talks to all workers, a worker to the server alone.
    bool linked(Peer a, Peer b) const {
        return a != b && (a == kServerPeer || b == kServerPeer) && a.value() < inboxes.size() &&
               b.value() < inboxes.size();
    }

    Inbox& inbox(Peer peer) { return inboxes[peer.value()]; }

    const Clock& clock;
    std::mutex mutex;
    std::vector<Inbox> inboxes; ///< by peer
};

namespace {

class InProcessEndpoint final : public Transport {
  public:
    InProcessEndpoint(std::shared_ptr<InProcessHub::State> state, Peer self)
        : state_(std::move(state)),
          self_(self),
          mine_(state_->inbox(self)) {}

    ~InProcessEndpoint() override { shutdown(Time::min()); }

    SendStatus try_send(Peer to, const Message& message) override {
        CHECK(state_->linked(self_, to));
        const Header header = encode_header(message);
        const std::lock_guard lock(state_->mutex);
        Inbox& theirs = state_->inbox(to);
        if (mine_.closed || theirs.closed) return SendStatus::gone;
        if (mine_.ways[to.value() % mine_.ways.size()].forgotten) return SendStatus::gone;
        Inbox::Way& way = theirs.ways[self_.value() % theirs.ways.size()];
        if (way.queued == InProcessHub::kQueuedMax) {
            way.refused = true;
            return SendStatus::busy;
        }
        ++way.queued;
        Entry& entry = theirs.push();
        entry.from = self_;
        entry.gone = false;
        entry.header = header;
        entry.payload = message.payload;
        theirs.changed.notify_one();
        return SendStatus::sent;
    }

    std::optional<Incoming> receive(Time deadline) override {
        std::unique_lock lock(state_->mutex);
        for (;;) {
            if (mine_.closed) return std::nullopt;
            while (mine_.count > 0 && mine_.ways[mine_.next().from.value() % mine_.ways.size()].forgotten) take();
            if (mine_.count > 0) break;
            if (std::exchange(mine_.woken, false) || std::exchange(mine_.writable, false)) return std::nullopt;
            if (deadline == kNever) {
                mine_.changed.wait(lock);
                continue;
            }
            const Time now = state_->clock.now();
            if (deadline <= now) return std::nullopt;
            mine_.changed.wait_for(lock, std::min<Duration>(deadline - now, std::chrono::hours(1)));
        }
        Entry entry = take();
        lock.unlock();
        if (entry.gone) return PeerGone{entry.from};
        DecodedHeader decoded;
        CHECK(decode_header(entry.header, decoded) == WireFault::none);
        decoded.message.payload = std::move(entry.payload);
        return Received{entry.from, std::move(decoded.message)};
    }

    void forget(Peer peer) override {
        CHECK(state_->linked(self_, peer));
        const std::lock_guard lock(state_->mutex);
        mine_.ways[peer.value() % mine_.ways.size()].forgotten = true;
    }

    void wake() override {
        const std::lock_guard lock(state_->mutex);
        mine_.woken = true;
        mine_.changed.notify_one();
    }

    void shutdown(Time) override { // what was taken over lies before its receiver already
        const std::lock_guard lock(state_->mutex);
        if (std::exchange(mine_.closed, true)) return;
        while (mine_.count > 0) mine_.pop();
        for (std::size_t i = 0; i < state_->inboxes.size(); ++i) {
            const Peer peer{static_cast<std::uint32_t>(i)};
            Inbox& theirs = state_->inbox(peer);
            if (!state_->linked(self_, peer) || theirs.closed) continue;
            Entry& entry = theirs.push();
            entry.from = self_;
            entry.gone = true;
            entry.payload.reset();
            theirs.changed.notify_one();
        }
    }

  private:
    /// REQUIRES: something is there.
    Entry take() {
        Entry entry = mine_.pop();
        if (entry.gone) return entry;
        Inbox::Way& way = mine_.ways[entry.from.value() % mine_.ways.size()];
        --way.queued;
        if (std::exchange(way.refused, false)) {
            Inbox& theirs = state_->inbox(entry.from);
            theirs.writable = true;
            theirs.changed.notify_one();
        }
        return entry;
    }

    std::shared_ptr<InProcessHub::State> state_;
    Peer self_;
    Inbox& mine_;
};

} // namespace

InProcessHub::InProcessHub(std::size_t workers, const Clock& clock) : state_(std::make_shared<State>(workers, clock)) {}

std::unique_ptr<Transport> InProcessHub::endpoint(Peer peer) {
    const std::lock_guard lock(state_->mutex);
    CHECK(peer.value() < state_->inboxes.size() && !state_->inbox(peer).claimed);
    state_->inbox(peer).claimed = true;
    return std::make_unique<InProcessEndpoint>(state_, peer);
}

} // namespace lategrad
