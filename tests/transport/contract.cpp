#include "contract.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "lategrad/core/random.h"

namespace lategrad::testing {

using namespace std::chrono_literals;

void Party::send(Peer to, const Message& message) {
    const Time limit = soon();
    for (;;) {
        switch (transport.try_send(to, message)) {
        case SendStatus::sent: return;
        case SendStatus::gone: throw std::runtime_error("the peer to send to is gone");
        case SendStatus::busy: break;
        }
        if (clock.now() > limit) throw std::runtime_error("the way stayed busy");
        auto incoming = transport.receive(limit);
        if (incoming && std::holds_alternative<Received>(*incoming)) {
            stash_.push_back(std::get<Received>(std::move(*incoming)));
        }
    }
}

std::optional<Received> Party::stashed(std::optional<Peer> from) {
    const auto it =
        std::find_if(stash_.begin(), stash_.end(), [&](const Received& r) { return !from || r.peer == *from; });
    if (it == stash_.end()) return std::nullopt;
    Received received = std::move(*it);
    stash_.erase(it);
    return received;
}

Received Party::next() {
    if (auto received = stashed(std::nullopt)) return std::move(*received);
    const Time limit = soon();
    for (;;) {
        auto incoming = transport.receive(limit);
        if (incoming && std::holds_alternative<Received>(*incoming)) return std::get<Received>(std::move(*incoming));
        if (!incoming && clock.now() > limit) throw std::runtime_error("no message came");
    }
}

Message Party::next_from(Peer peer) {
    if (auto received = stashed(peer)) return std::move(received->message);
    const Time limit = soon();
    for (;;) {
        auto incoming = transport.receive(limit);
        if (!incoming) {
            if (clock.now() > limit) throw std::runtime_error("no message came");
        } else if (auto* gone = std::get_if<PeerGone>(&*incoming)) {
            if (gone->peer == peer) throw std::runtime_error("the peer awaited is gone");
        } else if (auto* received = std::get_if<Received>(&*incoming)) {
            if (received->peer == peer) return std::move(received->message);
            stash_.push_back(std::move(*received));
        }
    }
}

std::optional<Incoming> Party::next_incoming(Time deadline) {
    if (auto received = stashed(std::nullopt)) return std::move(*received);
    for (;;) {
        auto incoming = transport.receive(deadline);
        if (incoming || clock.now() >= deadline) return incoming;
    }
}

Buffer Party::payload(std::size_t bytes, std::uint64_t seed) {
    Buffer buffer = pool_.lease(bytes);
    RandomStream random(seed, Purpose::test);
    for (std::size_t i = 0; i < bytes; i += 8) {
        const std::uint64_t word = random();
        std::memcpy(buffer.data() + i, &word, std::min<std::size_t>(8, bytes - i));
    }
    return buffer;
}

Message Party::message(std::uint64_t step, Buffer payload) {
    Message message;
    message.type = MessageType::push;
    message.step = Step{step};
    message.payload = std::move(payload);
    return message;
}

std::vector<Peer> Party::worker_peers() const {
    std::vector<Peer> peers;
    for (std::size_t i = 1; i <= workers; ++i) peers.emplace_back(static_cast<std::uint32_t>(i));
    return peers;
}

void play(const ContractCase& contract_case, Party& party) {
    try {
        (party.self == kServerPeer ? contract_case.server : contract_case.worker)(party);
    } catch (const std::exception& error) {
        ADD_FAILURE() << contract_case.name << ", peer " << party.self.value() << ": " << error.what();
    }
}

namespace {

std::uint64_t checksum(const Buffer& payload) {
    return payload_checksum({payload.data(), payload.bytes()});
}

constexpr Peer kFirst{1};

// Order per peer, with and without payloads, many more messages than may be on their way at once.

constexpr std::uint64_t kInOrder = 100;

std::size_t size_of(std::uint64_t step) {
    return step % 3 == 0 ? 0 : step % 3 == 1 ? 8 : 5000;
}

void order_server(Party& party) {
    std::vector<std::uint64_t> expected(party.workers + 1, 0);
    for (std::size_t i = 0; i < kInOrder * party.workers; ++i) {
        const Received received = party.next();
        const std::uint64_t step = received.message.step.value();
        EXPECT_EQ(step, expected[received.peer.value()]++);
        EXPECT_EQ(received.message.payload.bytes(), size_of(step));
    }
}

void order_worker(Party& party) {
    for (std::uint64_t step = 0; step < kInOrder; ++step) {
        const std::size_t bytes = size_of(step);
        party.send(kServerPeer, party.message(step, bytes > 0 ? party.payload(bytes, step) : Buffer{}));
    }
}

// Any size of payload, there and back, bit for bit.

constexpr std::size_t kSizes[] = {0,
                                  1,
                                  95,
                                  96,
                                  97,
                                  std::size_t{4} << 10,
                                  1 << 16,
                                  65'537,
                                  1 << 20,
                                  (1 << 22) + 3,
                                  std::size_t{64} << 20,
                                  std::size_t{256} << 20};

void sizes_server(Party& party) {
    for (const std::size_t bytes : kSizes) {
        const std::uint64_t sum = checksum(party.payload(bytes, bytes));
        Message message = party.next_from(kFirst);
        EXPECT_EQ(message.payload.bytes(), bytes);
        EXPECT_EQ(checksum(message.payload), sum);
        party.send(kFirst, message);
    }
}

void sizes_worker(Party& party) {
    if (party.self != kFirst) return;
    for (const std::size_t bytes : kSizes) {
        Message message = party.message(bytes, party.payload(bytes, bytes));
        const std::uint64_t sum = checksum(message.payload);
        party.send(kServerPeer, message);
        message.payload.reset();
        const Message back = party.next_from(kServerPeer);
        EXPECT_EQ(back.step.value(), bytes);
        EXPECT_EQ(back.payload.bytes(), bytes);
        EXPECT_EQ(checksum(back.payload), sum);
    }
}

// Both directions at once, every peer.

constexpr std::uint64_t kCrossing = 10;

void crossing_server(Party& party) {
    for (std::uint64_t step = 0; step < kCrossing; ++step) {
        for (const Peer peer : party.worker_peers())
            party.send(peer, party.message(step, party.payload(1 << 18, step)));
    }
    for (const Peer peer : party.worker_peers()) {
        for (std::uint64_t step = 0; step < kCrossing; ++step) {
            const Message message = party.next_from(peer);
            EXPECT_EQ(message.step.value(), step);
            EXPECT_EQ(checksum(message.payload), checksum(party.payload(1 << 18, step + peer.value())));
        }
    }
}

void crossing_worker(Party& party) {
    for (std::uint64_t step = 0; step < kCrossing; ++step) {
        party.send(kServerPeer, party.message(step, party.payload(1 << 18, step + party.self.value())));
    }
    for (std::uint64_t step = 0; step < kCrossing; ++step) {
        const Message message = party.next_from(kServerPeer);
        EXPECT_EQ(message.step.value(), step);
        EXPECT_EQ(checksum(message.payload), checksum(party.payload(1 << 18, step)));
    }
}

// Everybody is answered, in another order than they came; each gets its own answer.

void many_server(Party& party) {
    std::vector<Received> arrived;
    while (arrived.size() < party.workers) arrived.push_back(party.next());
    std::reverse(arrived.begin(), arrived.end());
    for (const Received& received : arrived) {
        EXPECT_EQ(received.message.step.value(), received.peer.value());
        party.send(received.peer, received.message);
    }
}

void many_worker(Party& party) {
    party.send(kServerPeer, party.message(party.self.value()));
    EXPECT_EQ(party.next_from(kServerPeer).step.value(), party.self.value());
}

// Deadlines: passed, to come, and none.

void deadline_server(Party& party) {
    EXPECT_FALSE(party.transport.receive(Time::min()));
    EXPECT_FALSE(party.transport.receive(party.clock.now()));
    const Time deadline = party.clock.now() + 5ms;
    EXPECT_FALSE(party.transport.receive(deadline));
    EXPECT_GE(party.clock.now(), deadline);
    for (const Peer peer : party.worker_peers()) party.send(peer, party.message(0));

    // What has arrived is delivered even when the deadline has passed.
    std::optional<Incoming> incoming;
    for (const Time limit = party.soon(); !incoming && party.clock.now() < limit;) {
        incoming = party.transport.receive(Time::min());
    }
    EXPECT_TRUE(incoming && std::holds_alternative<Received>(*incoming));
    for (std::size_t i = 1; i < party.workers; ++i) party.next();
}

void deadline_worker(Party& party) {
    const auto incoming = party.transport.receive(kNever);
    EXPECT_TRUE(incoming && std::holds_alternative<Received>(*incoming));
    party.send(kServerPeer, party.message(1));
}

// A wake ends one receive, the blocking one or the next.

void wake(Party& party) {
    party.transport.wake();
    EXPECT_FALSE(party.transport.receive(kNever));
    {
        const std::jthread other([&] { party.transport.wake(); });
        EXPECT_FALSE(party.transport.receive(kNever));
    }
    const Time deadline = party.clock.now() + 5ms;
    EXPECT_FALSE(party.transport.receive(deadline));
    EXPECT_GE(party.clock.now(), deadline);
    party.meet(); // nobody leaves while others still expect silence
}

// A receiver that takes nothing is found busy after a few messages, and its sender learns when it takes again.

constexpr std::size_t kFewMessages = 8;
constexpr std::size_t kLarge = std::size_t{1} << 20;

void busy_server(Party& party) {
    std::uint64_t step = 0;
    const Message large = party.message(0, party.payload(kLarge, 1));
    const auto send_next = [&] {
        Message message = large;
        message.step = Step{step};
        const SendStatus status = party.transport.try_send(kFirst, message);
        if (status == SendStatus::sent) ++step;
        return status;
    };
    while (step <= kFewMessages && send_next() == SendStatus::sent) {
    }
    EXPECT_GE(step, 1u);
    EXPECT_LE(step, kFewMessages);
    EXPECT_EQ(send_next(), SendStatus::busy);
    EXPECT_FALSE(party.transport.receive(party.clock.now() + 5ms));
    EXPECT_EQ(send_next(), SendStatus::busy);
    party.meet();
    const Time limit = party.soon();
    while (party.transport.receive(limit)) {
    }                                    // others may leave now
    EXPECT_LT(party.clock.now(), limit); // empty, because it can take a message again
    EXPECT_EQ(send_next(), SendStatus::sent);
    party.send(kFirst, party.message(step)); // the last one has no payload
}

void busy_worker(Party& party) {
    party.meet();
    if (party.self != kFirst) return;
    for (std::uint64_t step = 0;; ++step) {
        const Message message = party.next_from(kServerPeer);
        EXPECT_EQ(message.step.value(), step);
        if (!message.payload) return;
    }
}

// The payload's handle comes back once it has left.

void release_server(Party& party) {
    Message message = party.message(0, party.payload(kLarge, 1));
    for (const Peer peer : party.worker_peers()) party.send(peer, message);
    for (const Peer peer : party.worker_peers()) party.next_from(peer);
    const Time limit = party.soon();
    while (!message.payload.unique() && party.clock.now() < limit) party.transport.receive(Time::min());
    EXPECT_TRUE(message.payload.unique());
    party.meet();
}

void release_worker(Party& party) {
    party.next_from(kServerPeer);
    party.send(kServerPeer, party.message(0));
    party.meet();
}

// A peer leaves: its messages come first, then the news, then nothing; the others go on.

void gone_server(Party& party) {
    for (std::uint64_t step = 0; step < 3; ++step) {
        const Message message = party.next_from(kFirst);
        EXPECT_EQ(message.step.value(), step);
        EXPECT_EQ(message.payload.bytes(), kLarge);
    }
    const auto incoming = party.next_incoming(party.soon());
    EXPECT_TRUE(incoming && std::holds_alternative<PeerGone>(*incoming));
    if (incoming && std::holds_alternative<PeerGone>(*incoming)) {
        EXPECT_EQ(std::get<PeerGone>(*incoming).peer, kFirst);
    }
    EXPECT_EQ(party.transport.try_send(kFirst, party.message(0)), SendStatus::gone);
    for (const Peer peer : party.worker_peers()) {
        if (peer == kFirst) continue;
        party.send(peer, party.message(7));
        EXPECT_EQ(party.next_from(peer).step.value(), 7u);
    }
}

void gone_worker(Party& party) {
    if (party.self == kFirst) {
        for (std::uint64_t step = 0; step < 3; ++step) {
            party.send(kServerPeer, party.message(step, party.payload(kLarge, step)));
        }
        party.transport.shutdown(party.soon());
        EXPECT_EQ(party.transport.try_send(kServerPeer, party.message(3)), SendStatus::gone);
        EXPECT_FALSE(party.transport.receive(kNever));
    } else {
        party.send(kServerPeer, party.next_from(kServerPeer));
        // The server leaves next.
        const auto incoming = party.next_incoming(party.soon());
        EXPECT_TRUE(incoming && std::holds_alternative<PeerGone>(*incoming));
    }
}

// Shutdown sends what was taken over, and every worker learns that the server has gone.

void shutdown_server(Party& party) {
    const Message message = party.message(1, party.payload(8 * kLarge, 1));
    for (const Peer peer : party.worker_peers()) EXPECT_EQ(party.transport.try_send(peer, message), SendStatus::sent);
    party.transport.shutdown(party.soon());
}

void shutdown_worker(Party& party) {
    const std::uint64_t sum = checksum(party.payload(8 * kLarge, 1));
    EXPECT_EQ(checksum(party.next_from(kServerPeer).payload), sum);
    const auto incoming = party.next_incoming(party.soon());
    EXPECT_TRUE(incoming && std::holds_alternative<PeerGone>(*incoming));
    EXPECT_EQ(party.transport.try_send(kServerPeer, party.message(1)), SendStatus::gone);
}

} // namespace

const std::vector<ContractCase>& contract_cases() {
    static const std::vector<ContractCase> cases{
        {"KeepsOrderPerPeer", order_server, order_worker},
        {"CarriesAnySizeOfPayload", sizes_server, sizes_worker},
        {"MovesBothWaysAtOnce", crossing_server, crossing_worker},
        {"AnswersManyPeers", many_server, many_worker},
        {"ObservesDeadlines", deadline_server, deadline_worker},
        {"Wakes", wake, wake},
        {"IsBusyWhenTheReceiverTakesNothing", busy_server, busy_worker},
        {"ReleasesPayloadsThatLeft", release_server, release_worker},
        {"TellsWhoIsGone", gone_server, gone_worker},
        {"ShutdownSendsWhatWasTakenOver", shutdown_server, shutdown_worker},
    };
    return cases;
}

} // namespace lategrad::testing
