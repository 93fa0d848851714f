/// What a peer can send to a server without any of our manners, and what that costs: at most its own connection.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "zmq_parties.h"

namespace lategrad::testing {
namespace {

using namespace std::chrono_literals;
using Frames = std::vector<std::vector<std::string>>;

constexpr Peer kHonest{1};
constexpr Peer kHostile{2};
constexpr std::size_t kPayloadMax = 1000;

ZmqServerOptions small_server() {
    ZmqServerOptions options;
    options.link = {.payload_bytes_max = kPayloadMax, .payloads_max = 4};
    return options;
}

std::string text_of(const Header& header) {
    return {reinterpret_cast<const char*>(header.data()), header.size()};
}

/// Of a payload of zeros.
std::string header(std::uint64_t step, std::size_t payload_bytes = 0, PayloadChecksum checksum = PayloadChecksum::yes) {
    BufferPool pool(payload_bytes);
    Message message;
    message.type = MessageType::push;
    message.step = Step{step};
    message.payload = pool.lease(payload_bytes);
    std::memset(message.payload.data(), 0, payload_bytes);
    return text_of(encode_header(message, checksum));
}

/// With this byte changed, and a checksum that says that it belongs so.
std::string forged(std::string header, std::size_t offset, char byte) {
    header[offset] = byte;
    const std::uint64_t sum = payload_checksum(std::as_bytes(std::span(header)).first(120));
    std::memcpy(header.data() + 120, &sum, sizeof sum);
    return header;
}

std::string flipped(std::string header, std::size_t bit) {
    header[bit / 8] = static_cast<char>(header[bit / 8] ^ (1 << (bit % 8)));
    return header;
}

std::string zeros(std::size_t count) {
    return std::string(count, '\0');
}

struct Wrong {
    std::string what;
    Frames frames;
    ZmqFault fault;
};

/// A message is lost, or what follows could mean anything. The last frame shows it.
std::vector<Wrong> wrongs() {
    std::vector<Wrong> wrongs{
        {"a header of noise", {{"H", std::string(128, 'x')}}, ZmqFault::header},
        {"an empty header", {{"H", ""}}, ZmqFault::header},
        {"a header without a body", {{"H"}}, ZmqFault::header},
        {"a short header", {{"H", header(0).substr(0, 20)}}, ZmqFault::header},
        {"a long header", {{"H", header(0) + "x"}}, ZmqFault::header},
        {"another wire version", {{"H", forged(header(0), 4, 99)}}, ZmqFault::header},
        {"no type of message", {{"H", forged(header(0), 5, 77)}}, ZmqFault::header},
        {"a damaged header of a payload", {{"H", flipped(header(0, 100), 200)}}, ZmqFault::header},
        {"a payload longer than any here", {{"H", header(0, 1001)}}, ZmqFault::length},
        {"a payload of which nothing comes", {{"H", header(0, 1000)}, {"H", header(1)}}, ZmqFault::length},
        {"a payload that ends early", {{"H", header(0, 100)}, {"C", zeros(99)}, {"H", header(1)}}, ZmqFault::length},
        {"a huge payload announced", {{"H", forged(header(0, 100), 68, 1)}}, ZmqFault::length},
        {"the hugest payload announced", {{"H", forged(header(0, 100), 71, '\x7f')}}, ZmqFault::length},
        {"a payload that is not as its checksum says", {{"H", header(0, 3)}, {"C", "abc"}}, ZmqFault::checksum},
        {"an unknown tag", {{"X", "abc"}}, ZmqFault::framing},
        {"a long tag", {{"HH", header(0)}}, ZmqFault::framing},
        {"no tag", {{"", header(0)}}, ZmqFault::framing},
        {"an empty message", {{""}}, ZmqFault::framing},
        {"more parts than a frame has", {{"H", header(0), "x", "y"}}, ZmqFault::framing},
        {"a chunk without a header", {{"C", "abc"}}, ZmqFault::framing},
        {"a chunk behind a whole message", {{"H", header(0, 3)}, {"C", zeros(3)}, {"C", "abc"}}, ZmqFault::framing},
        {"more bytes than announced", {{"H", header(0, 100)}, {"C", zeros(101)}}, ZmqFault::framing},
        {"an empty chunk", {{"H", header(0, 100)}, {"C", ""}}, ZmqFault::framing},
        {"a server's word", {{"R", "x"}}, ZmqFault::framing},
    };
    for (std::size_t bit = 0; bit < 8 * kHeaderBytes; bit += 61) {
        wrongs.push_back({"a flipped bit, " + std::to_string(bit), {{"H", flipped(header(0), bit)}}, ZmqFault::header});
    }
    return wrongs;
}

class ZmqHostile : public ::testing::Test {
  protected:
    ZmqHostile() : server(listen(clock, small_server())), honest(connected(clock, *server)) {}

    /// An open connection of bare ZeroMQ, peer 2.
    std::unique_ptr<RawPeer> hostile() {
        auto raw = std::make_unique<RawPeer>(server->endpoint());
        raw->open();
        serve_until(*server, clock, [&] { return server->peers() == 2; });
        return raw;
    }

    /// The other worker and the server still talk.
    void expect_service() {
        Message message;
        message.step = Step{7};
        ASSERT_EQ(honest->try_send(kServerPeer, message), SendStatus::sent);
        const Incoming incoming = next_of(*server, *honest, clock);
        ASSERT_TRUE(std::holds_alternative<Received>(incoming));
        EXPECT_EQ(std::get<Received>(incoming).peer, kHonest);
        ASSERT_EQ(server->try_send(kHonest, message), SendStatus::sent);
        EXPECT_TRUE(std::holds_alternative<Received>(next_of(*honest, *server, clock)));
        serve_until(*server, clock, [&] { return honest->receive(Time::min()), true; });
    }

    const SteadyClock clock;
    std::unique_ptr<ZmqServerTransport> server;
    std::unique_ptr<ZmqTransport> honest;
};

TEST_F(ZmqHostile, LosesItsConnectionAndNothingElse) {
    ZmqFaults expected;
    for (const Wrong& wrong : wrongs()) {
        SCOPED_TRACE(wrong.what);
        const auto raw = hostile();
        for (const auto& frame : wrong.frames) raw->send(frame);
        Incoming incoming = next_of(*server, clock);
        if (std::holds_alternative<Received>(incoming)) incoming = next_of(*server, clock);
        ASSERT_TRUE(std::holds_alternative<PeerGone>(incoming));
        EXPECT_EQ(std::get<PeerGone>(incoming).peer, kHostile);
        expected.count(wrong.fault);
        EXPECT_EQ(server->try_send(kHostile, Message{}), SendStatus::gone);
        // The connection stands, and nothing that still comes over it counts, a new opening no more than the rest.
        raw->send({"H", header(1)});
        raw->open();
        const std::uint64_t strays = server->faults()[ZmqFault::stray];
        serve_until(*server, clock, [&] { return server->faults()[ZmqFault::stray] == strays + 2; });
        for (std::size_t i = 0; i < kZmqFaults; ++i) {
            const auto fault = static_cast<ZmqFault>(i);
            if (fault == ZmqFault::stray) continue;
            EXPECT_EQ(server->faults()[fault], expected[fault]) << to_string(fault);
        }
        EXPECT_EQ(server->peers(), 1u);
    }
    expect_service();
}

/// Else its gradient would be waited for, and it for the next parameters, for as long as both live.
TEST_F(ZmqHostile, AnHonestPeerWhosePushIsDamagedKnowsIt) {
    const auto raw = hostile();
    EXPECT_EQ(raw->receive().front(), "O");
    raw->send({"H", header(0, 3)});
    raw->send({"C", "abc"});
    EXPECT_EQ(std::get<PeerGone>(next_of(*server, clock)).peer, kHostile);
    std::vector<std::string> last;
    do last = raw->receive();
    while (last.front() == "O"); // told once more, for a trial
    EXPECT_EQ(last.front(), "E");
}

/// An update that is done must not wait for the noise to end.
TEST_F(ZmqHostile, DoesNotKeepTheServerFromItsWakeUp) {
    std::atomic<bool> enough = false, ended = false;
    std::thread flood([&] {
        RawPeer raw(server->endpoint());
        while (!enough) raw.send({"noise"});
        ended = true;
    });
    serve_until(*server, clock, [&] { return server->faults()[ZmqFault::stray] >= 1000; });
    server->wake();
    EXPECT_FALSE(server->receive(kNever));
    enough = true;
    serve_until(*server, clock, [&] { return ended.load(); });
    flood.join();
    expect_service();
}

TEST_F(ZmqHostile, IsNobodyBeforeItOpens) {
    RawPeer raw(server->endpoint());
    raw.send({"H", header(1)});
    raw.send({"noise"});
    serve_until(*server, clock, [&] { return server->faults()[ZmqFault::stray] == 2; });
    raw.send({"O", "lategrad999"});
    std::vector<std::string> answer;
    std::atomic<bool> answered = false;
    std::thread reading([&] {
        answer = raw.receive();
        answered = true;
    });
    serve_until(*server, clock, [&] { return answered.load(); });
    reading.join();
    EXPECT_EQ(answer, (std::vector<std::string>{"R", "\x02"}));
    EXPECT_EQ(server->peers(), 1u);
    expect_service();
}

TEST_F(ZmqHostile, IsCutOffByAFrameBeyondAnySize) {
    const auto raw = hostile();
    raw->send({"H", header(0, 1000)});
    raw->send({"C", zeros(kChunkBytesMax + 4096)});
    const Incoming incoming = next_of(*server, clock);
    ASSERT_TRUE(std::holds_alternative<PeerGone>(incoming));
    EXPECT_EQ(std::get<PeerGone>(incoming).peer, kHostile);
    expect_service();
}

TEST_F(ZmqHostile, DoesNotHoldUpOthersWherePayloadMemoryIsSpent) {
    const auto raw = hostile();
    std::vector<Incoming> held; // as many as there is memory for
    for (std::uint64_t i = 0; i < 4; ++i) {
        raw->send({"H", header(i, kPayloadMax)});
        raw->send({"C", zeros(kPayloadMax)});
        held.push_back(next_of(*server, clock));
    }
    raw->send({"H", header(5, kPayloadMax)});
    raw->send({"C", zeros(kPayloadMax)});
    EXPECT_EQ(std::get<PeerGone>(next_of(*server, clock)).peer, kHostile);
    EXPECT_EQ(server->faults()[ZmqFault::memory], 1u);
    expect_service();
    held.clear();
    const auto again = hostile();
    again->send({"H", header(6, kPayloadMax)});
    again->send({"C", zeros(kPayloadMax)});
    EXPECT_EQ(std::get<Received>(next_of(*server, clock)).message.step, Step{6});
}

TEST_F(ZmqHostile, IsBusyWhereItReadsNothingAndCostsOneMessage) {
    auto raw = hostile();
    BufferPool pool(std::size_t{64} << 20);
    Message large;
    large.payload = pool.lease(std::size_t{64} << 20); // more than kernels and ZeroMQ hold between two processes
    std::memset(large.payload.data(), 1, large.payload.bytes());
    EXPECT_EQ(server->try_send(kHostile, large), SendStatus::sent);
    for (int i = 0; i < 10; ++i) {
        EXPECT_EQ(server->try_send(kHostile, large), SendStatus::busy);
        expect_service();
    }
    EXPECT_FALSE(large.payload.unique());
    raw.reset();
    const Incoming incoming = next_of(*server, clock);
    ASSERT_TRUE(std::holds_alternative<PeerGone>(incoming));
    EXPECT_EQ(std::get<PeerGone>(incoming).peer, kHostile);
    serve_until(*server, clock, [&] { return large.payload.unique(); });
}

TEST_F(ZmqHostile, IsNotHeardWhenForgotten) {
    const auto raw = hostile();
    server->forget(kHostile);
    raw->send({"H", header(1)});
    raw->open();
    serve_until(*server, clock, [&] { return server->faults()[ZmqFault::stray] == 2; });
    EXPECT_EQ(server->peers(), 1u);
    EXPECT_EQ(server->try_send(kHostile, Message{}), SendStatus::gone);
    const auto next = hostile(); // gets the number
    next->send({"H", header(2)});
    EXPECT_EQ(std::get<Received>(next_of(*server, clock)).peer, kHostile);
    expect_service();
}

} // namespace
} // namespace lategrad::testing
