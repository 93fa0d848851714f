#include "lategrad/transport/zmq_socket.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>

#include <sys/eventfd.h>
#include <unistd.h>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

/// Frames that ZeroMQ holds per connection and direction. Sent ones are handles to payloads that are held anyway;
/// received ones are memory.
constexpr int kSendHwm = 8;
constexpr int kReceiveHwm = 4;
/// What encryption adds to a frame, and more.
constexpr std::size_t kFrameOverhead = 256;
/// Someone who connects and says nothing.
constexpr int kHandshakeMs = 10'000;
constexpr int kMonitorHwm = 100'000;

int milliseconds(Duration duration) {
    using std::chrono::milliseconds;
    return static_cast<int>(std::clamp(std::chrono::duration_cast<milliseconds>(duration), milliseconds(1),
                                       milliseconds(6'000'000)) // the longest ZMQ_HEARTBEAT_TTL there is
                                .count());
}

} // namespace

void throw_zmq_error(const char* call) {
    throw EnvironmentError(std::string(call) + " failed: " + zmq_strerror(zmq_errno()));
}

void set_limits(zmq::socket_t& socket, const ZmqLinkOptions& options) {
    CHECK(options.chunk_bytes > 0 && options.chunk_bytes <= kChunkBytesMax);
    socket.set(zmq::sockopt::sndhwm, kSendHwm);
    socket.set(zmq::sockopt::rcvhwm, kReceiveHwm);
    socket.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(kChunkBytesMax + kFrameOverhead));
    socket.set(zmq::sockopt::handshake_ivl, kHandshakeMs);
    // Half-open connections are ended by the system: where something is on its way, our beats above all, by the limit
    // on how long it may stay unacknowledged; where nothing is, by probes. Not by ZeroMQ's own heartbeats: in 4.3.4
    // these abort a process that was stopped for longer than they wait.
    socket.set(zmq::sockopt::tcp_maxrt, milliseconds(options.dead_after));
    const int probe = std::max(1, static_cast<int>(seconds(options.dead_after) / 3));
    socket.set(zmq::sockopt::tcp_keepalive, 1);
    socket.set(zmq::sockopt::tcp_keepalive_idle, probe);
    socket.set(zmq::sockopt::tcp_keepalive_intvl, probe);
    socket.set(zmq::sockopt::tcp_keepalive_cnt, 2);
}

int linger_ms(Time now, Time deadline) {
    constexpr Duration kMin = std::chrono::milliseconds(100);
    constexpr Duration kMax = std::chrono::seconds(1);
    return milliseconds(deadline <= now ? kMin : std::clamp(deadline - now, kMin, kMax));
}

ZmqMonitor::ZmqMonitor(zmq::context_t& context, zmq::socket_t& socket, int kinds)
    : watched_(socket),
      events_(context, zmq::socket_type::pair) {
    // ZeroMQ's I/O thread would wait for a reader that is too far behind.
    events_.set(zmq::sockopt::rcvhwm, kMonitorHwm);
    events_.set(zmq::sockopt::linger, 0);
    static std::atomic<std::uint64_t> count = 0;
    const std::string address = "inproc://lategrad.monitor." + std::to_string(count++);
    if (zmq_socket_monitor(socket.handle(), address.c_str(), kinds) != 0) throw_zmq_error("zmq_socket_monitor");
    events_.connect(address);
}

ZmqMonitor::~ZmqMonitor() {
    while (next()) { // so that the I/O thread is not in the middle of telling
    }
    zmq_socket_monitor(watched_.handle(), nullptr, 0);
}

std::optional<ZmqMonitor::Event> ZmqMonitor::next() {
    zmq::message_t event;
    zmq::message_t address;
    int received;
    do received = zmq_msg_recv(event.handle(), events_.handle(), ZMQ_DONTWAIT);
    while (received < 0 && errno == EINTR);
    if (received < 0) return std::nullopt;
    while (zmq_msg_recv(address.handle(), events_.handle(), 0) < 0 && errno == EINTR) {
    }
    std::uint16_t kind = 0;
    std::uint32_t value = 0;
    if (event.size() != sizeof kind + sizeof value) return Event{};
    std::memcpy(&kind, event.data(), sizeof kind);
    std::memcpy(&value, event.data<char>() + sizeof kind, sizeof value);
    return Event{kind, static_cast<int>(value)};
}

Waker::Waker() : descriptor_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (descriptor_ < 0) throw EnvironmentError(std::string("eventfd failed: ") + std::strerror(errno));
}

Waker::~Waker() {
    ::close(descriptor_);
}

void Waker::wake() {
    ::eventfd_write(descriptor_, 1);
}

bool Waker::exchange_woken() {
    eventfd_t count;
    return ::eventfd_read(descriptor_, &count) == 0;
}

void wait_for(std::span<zmq_pollitem_t> items, Time now, Time until) {
    using std::chrono::milliseconds;
    long timeout = -1;
    if (until != kNever) {
        constexpr Duration kLongest = std::chrono::hours(1);
        const Duration wait = until <= now ? Duration{0} : std::min(until - now, kLongest);
        timeout = static_cast<long>(std::chrono::ceil<milliseconds>(wait).count());
    }
    if (zmq_poll(items.data(), static_cast<int>(items.size()), timeout) < 0 && errno != EINTR) {
        throw_zmq_error("zmq_poll");
    }
}

} // namespace lategrad
