/// Peers that come, go, die and fall silent.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstring>
#include <filesystem>

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "zmq_parties.h"

namespace lategrad::testing {
namespace {

using namespace std::chrono_literals;

Peer gone_of(const Incoming& incoming) {
    return std::holds_alternative<PeerGone>(incoming) ? std::get<PeerGone>(incoming).peer : Peer{99'999};
}

/// A TCP port of 127.0.0.1 that is bound; it listens and never answers, or does not listen.
class Port {
  public:
    explicit Port(bool listens) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
        ::sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        ::socklen_t length = sizeof address;
        auto* const generic = reinterpret_cast<::sockaddr*>(&address);
        const bool ready = ::bind(socket_, generic, length) == 0 && (!listens || ::listen(socket_, 8) == 0) &&
                           ::getsockname(socket_, generic, &length) == 0;
        if (!ready) throw std::runtime_error("no port");
        endpoint_ = "tcp://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    }
    ~Port() { ::close(socket_); }
    Port(const Port&) = delete;
    Port& operator=(const Port&) = delete;
    const std::string& endpoint() const { return endpoint_; }

  private:
    int socket_;
    std::string endpoint_;
};

TEST(ZmqConnect, TellsThatNobodyIsThere) {
    const SteadyClock clock;
    const Port port(false);
    const Time deadline = in(clock, 20s);
    const ZmqConnection connection = connect_zmq({.server = port.endpoint()}, clock, deadline);
    EXPECT_FALSE(connection.transport);
    EXPECT_EQ(connection.refusal, ZmqRefusal::unreachable);
    EXPECT_NE(connection.why.find("nobody answers"), std::string::npos) << connection.why;
    EXPECT_LT(clock.now(), deadline);
}

TEST(ZmqConnect, WaitsNoLongerThanItMay) {
    const SteadyClock clock;
    const Port port(true);
    const Time deadline = in(clock, 50ms);
    const ZmqConnection connection = connect_zmq({.server = port.endpoint()}, clock, deadline);
    EXPECT_EQ(connection.refusal, ZmqRefusal::silent);
    // On a busy machine it may not even have come to be connected.
    const bool connected = connection.why.find("connected, but the server did not answer within") != std::string::npos;
    EXPECT_TRUE(connected || connection.why.find("no answer within") != std::string::npos) << connection.why;
    EXPECT_GE(clock.now(), deadline);
    EXPECT_LT(clock.now(), deadline + 5s);
}

TEST(ZmqConnect, IsGivenUpWhenItsCallerSaysSo) {
    const SteadyClock clock;
    const Port port(true);
    int asked = 0;
    const ZmqConnection connection =
        connect_zmq({.server = port.endpoint()}, clock, kNever, [&] { return ++asked == 2; });
    EXPECT_FALSE(connection.transport);
    EXPECT_EQ(connection.refusal, ZmqRefusal::silent);
    EXPECT_EQ(asked, 2);
}

TEST(ZmqConnect, RefusesWhatIsNoAddress) {
    const SteadyClock clock;
    EXPECT_THROW(connect_zmq({.server = "somewhere"}, clock, Time::min()), InputError);
    EXPECT_THROW(listen_zmq({.listen = "somewhere"}, clock), InputError);
    const auto server = listen(clock);
    EXPECT_THROW(listen_zmq({.listen = server->endpoint()}, clock), EnvironmentError);
}

TEST(ZmqServer, TakesNoMoreThanItMayAndReusesNumbers) {
    const SteadyClock clock;
    const auto server = listen(clock, {.peers_max = 3});
    auto first = connected(clock, *server);
    auto second = connected(clock, *server);
    const auto third = connected(clock, *server);
    const ZmqConnection fourth = connect(clock, *server);
    EXPECT_EQ(fourth.refusal, ZmqRefusal::room);
    EXPECT_EQ(server->faults()[ZmqFault::room], 1u);
    EXPECT_EQ(server->peers(), 3u);

    second.reset(); // says bye
    EXPECT_EQ(gone_of(next_of(*server, clock)), Peer{2});
    EXPECT_EQ(server->peers(), 2u);
    const auto again = connected(clock, *server);
    ASSERT_EQ(again->try_send(kServerPeer, Message{}), SendStatus::sent);
    EXPECT_EQ(std::get<Received>(next_of(*server, clock)).peer, Peer{2});
}

TEST(ZmqServer, LearnsThatAPeerVanished) {
    const SteadyClock clock;
    const auto server = listen(clock);
    const auto other = connected(clock, *server);
    for (int i = 0; i < 20; ++i) {
        auto raw = std::make_unique<RawPeer>(server->endpoint());
        raw->open();
        if (i % 2 == 0) serve_until(*server, clock, [&] { return server->peers() == 2; });
        else raw->flush_when_it_ends(); // the server may hear of its end before it reads that it has opened
        raw.reset();
        EXPECT_EQ(gone_of(next_of(*server, clock)), Peer{2});
    }
    EXPECT_EQ(server->peers(), 1u);
}

TEST(ZmqServer, EndsAConnectionThatSaysNothing) {
    const SteadyClock clock;
    ZmqServerOptions options;
    options.link.heartbeat = 5ms;
    options.link.dead_after = 20ms;
    const auto server = listen(clock, options);
    const Time start = clock.now();
    RawPeer raw(server->endpoint());
    raw.open();
    EXPECT_EQ(gone_of(next_of(*server, clock)), Peer{1});
    EXPECT_GE(clock.now(), start + 40ms);
    EXPECT_EQ(server->peers(), 0u);
    raw.open(); // the connection stands, and is not taken for a new one
    serve_until(*server, clock, [&] { return server->faults()[ZmqFault::stray] == 1; });
    EXPECT_EQ(server->peers(), 0u);
}

/// Of this process's connections over TCP: the time after which the system gives up what is not acknowledged.
std::vector<unsigned> user_timeouts() {
    std::vector<unsigned> timeouts;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        const int descriptor = std::stoi(entry.path().filename());
        ::sockaddr_in peer{};
        ::socklen_t length = sizeof peer;
        if (::getpeername(descriptor, reinterpret_cast<::sockaddr*>(&peer), &length) != 0) continue;
        unsigned timeout = 0;
        length = sizeof timeout;
        if (peer.sin_family != AF_INET) continue;
        if (::getsockopt(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, &length) == 0) {
            timeouts.push_back(timeout);
        }
    }
    return timeouts;
}

/// Beats are on their way all the time, so that the system's probes of idle connections never begin.
TEST(ZmqServer, AndClientGiveUpAConnectionThatAcknowledgesNothing) {
    const SteadyClock clock;
    ZmqServerOptions serving;
    serving.link.dead_after = 4s;
    ZmqClientOptions working;
    working.link.dead_after = 3s;
    const auto server = listen(clock, serving);
    const auto client = connected(clock, *server, working);
    EXPECT_THAT(user_timeouts(), ::testing::UnorderedElementsAre(4000u, 3000u));
}

/// A process of its own that is a worker and does nothing. Forked while this one has no other threads.
class Child {
  public:
    Child() {
        if (::pipe(pipe_) != 0) throw std::runtime_error("no pipe");
        process_ = ::fork();
        if (process_ == 0) {
            char endpoint[100] = {};
            if (::read(pipe_[0], endpoint, sizeof endpoint - 1) <= 0) ::_exit(1);
            const SteadyClock clock;
            ZmqClientOptions options{.server = endpoint};
            options.link.heartbeat = 1s;
            const ZmqConnection connection = connect_zmq(options, clock, in(clock, 20s));
            while (connection.transport) connection.transport->receive(kNever);
            ::_exit(1);
        }
    }
    ~Child() {
        kill();
        ::close(pipe_[0]);
        ::close(pipe_[1]);
    }
    void connect(const std::string& endpoint) {
        if (::write(pipe_[1], endpoint.data(), endpoint.size()) < 0) throw std::runtime_error("no pipe");
    }
    void kill() {
        if (process_ <= 0) return;
        ::kill(process_, SIGKILL);
        ::waitpid(process_, nullptr, 0);
        process_ = -1;
    }

  private:
    int pipe_[2] = {-1, -1};
    ::pid_t process_ = -1;
};

TEST(ZmqServer, LearnsAtOnceThatAProcessWasKilled) {
    Child child;
    const SteadyClock clock;
    ZmqServerOptions options;
    options.link.heartbeat = 1s;
    const auto server = listen(clock, options);
    child.connect(server->endpoint());
    serve_until(*server, clock, [&] { return server->peers() == 1; });
    // Of what cannot be received any more, a payload half-way, nothing is kept.
    BufferPool pool(std::size_t{64} << 20);
    Message large;
    large.payload = pool.lease(std::size_t{64} << 20);
    ASSERT_EQ(server->try_send(Peer{1}, large), SendStatus::sent);
    child.kill();
    const Time killed = clock.now();
    EXPECT_EQ(gone_of(next_of(*server, clock)), Peer{1});
    EXPECT_LT(seconds(clock.now() - killed), 0.5); // a few milliseconds, on a machine that is not crowded
    serve_until(*server, clock, [&] { return large.payload.unique(); });
}

TEST(ZmqClient, LearnsThatItsServerVanished) {
    const SteadyClock clock;
    zmq::context_t context;
    zmq::socket_t raw(context, zmq::socket_type::router);
    raw.set(zmq::sockopt::linger, 0);
    raw.bind("tcp://127.0.0.1:*");
    ZmqConnection connection;
    std::thread client(
        [&] { connection = connect_zmq({.server = raw.get(zmq::sockopt::last_endpoint)}, clock, in(clock, 20s)); });
    zmq::message_t id, tag, body;
    ASSERT_TRUE(raw.recv(id) && raw.recv(tag) && raw.recv(body));
    raw.send(id, zmq::send_flags::sndmore);
    raw.send(tag, zmq::send_flags::sndmore);
    raw.send(body, zmq::send_flags::none);
    client.join();
    ASSERT_TRUE(connection.transport) << connection.why;
    raw.close();
    EXPECT_EQ(gone_of(next_of(*connection.transport, clock)), kServerPeer);
    EXPECT_EQ(connection.transport->try_send(kServerPeer, Message{}), SendStatus::gone);
    EXPECT_FALSE(connection.transport->receive(in(clock, 1ms)));
}

TEST(ZmqClient, GivesUpAServerThatHangs) {
    const SteadyClock clock;
    const auto server = listen(clock);
    ZmqClientOptions options;
    options.link.heartbeat = 10ms;
    options.link.dead_after = 100ms;
    const Time start = clock.now();
    const auto client = connected(clock, *server, options);
    EXPECT_EQ(gone_of(next_of(*client, clock)), kServerPeer); // though ZeroMQ's threads still answer
    EXPECT_GE(clock.now(), start + 100ms);
}

TEST(ZmqHeartbeat, IsWhatTheServerTellsAfterwards) {
    const SteadyClock clock;
    const auto server = listen(clock);
    ZmqConnection connection = connect(clock, *server);
    ASSERT_TRUE(connection.transport) << connection.why;
    connection.transport->set_heartbeat(10ms, 100ms);
    const Time start = clock.now();
    EXPECT_EQ(gone_of(next_of(*connection.transport, clock)), kServerPeer); // which sends no beats
    EXPECT_GE(clock.now(), start + 100ms);
}

TEST(ZmqHeartbeat, ShowsThatBothEndsLive) {
    const SteadyClock clock;
    ZmqServerOptions serving;
    serving.link.heartbeat = 10ms;
    ZmqClientOptions working;
    working.link.heartbeat = 10ms;
    const auto server = listen(clock, serving);
    const auto client = connected(clock, *server, working);
    std::jthread beating([&](const std::stop_token& stop) {
        while (!stop.stop_requested()) {
            const auto incoming = client->receive(kNever); // returns for what comes, not for what it sends itself
            EXPECT_TRUE(!incoming || std::holds_alternative<PeerAlive>(*incoming));
            EXPECT_TRUE(incoming || stop.stop_requested());
        }
    });
    const Time start = clock.now();
    for (int i = 0; i < 5; ++i) {
        const auto incoming = server->receive(in(clock, 60s));
        ASSERT_TRUE(incoming && std::holds_alternative<PeerAlive>(*incoming));
        EXPECT_EQ(std::get<PeerAlive>(*incoming).peer, Peer{1});
    }
    EXPECT_GE(clock.now(), start + 4 * 5ms); // at most once per half heartbeat
    beating.request_stop();
    client->wake();
}

TEST(ZmqHeartbeat, IsNotReportedMoreOftenThanNeeded) {
    const SteadyClock clock;
    ZmqServerOptions options;
    options.link.heartbeat = 1h;
    const auto server = listen(clock, options);
    RawPeer raw(server->endpoint());
    raw.open();
    for (int i = 0; i < 10; ++i) raw.send({"B"});
    raw.send({"E"});
    const auto alive = server->receive(kNever);
    ASSERT_TRUE(alive && std::holds_alternative<PeerAlive>(*alive));
    const auto gone = server->receive(kNever);
    EXPECT_TRUE(gone && std::holds_alternative<PeerGone>(*gone));
}

/// Payloads around the borders of chunks.
TEST(ZmqChunks, ArePutTogetherAtEveryBorder) {
    constexpr std::size_t kChunk = 1000;
    const SteadyClock clock;
    const ZmqLinkOptions link{.payload_bytes_max = 10 * kChunk, .payloads_max = 2, .chunk_bytes = kChunk};
    const auto server = listen(clock, {.link = link});
    const auto client = connected(clock, *server, {.link = link});
    std::jthread echo([&] {
        for (;;) {
            const Incoming incoming = next_of(*client, clock);
            if (!std::holds_alternative<Received>(incoming)) return;
            EXPECT_EQ(client->try_send(kServerPeer, std::get<Received>(incoming).message), SendStatus::sent);
        }
    });
    BufferPool pool(100 * kChunk);
    for (const std::size_t bytes :
         {std::size_t{0}, std::size_t{1}, kChunk - 1, kChunk, kChunk + 1, 2 * kChunk, 5 * kChunk + 7, 10 * kChunk}) {
        Message message;
        message.payload = pool.lease(bytes);
        for (std::size_t i = 0; i < bytes; ++i) message.payload.data()[i] = static_cast<std::byte>(i * 7 % 251);
        ASSERT_EQ(server->try_send(Peer{1}, message), SendStatus::sent);
        const Incoming incoming = next_of(*server, clock);
        const Buffer& back = std::get<Received>(incoming).message.payload;
        ASSERT_EQ(back.bytes(), bytes);
        EXPECT_TRUE(bytes == 0 || std::memcmp(back.data(), message.payload.data(), bytes) == 0);
        serve_until(*server, clock, [&] { return message.payload.unique() || bytes == 0; });
    }
    server->shutdown(in(clock, 20s));
}

} // namespace
} // namespace lategrad::testing
