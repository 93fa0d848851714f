#include "lategrad/transport/zmq_frame.h"

#include <atomic>
#include <cerrno>
#include <string_view>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

/// False where nothing is there.
bool receive_part(zmq::socket_t& socket, zmq::message_t& part) {
    for (;;) {
        if (zmq_msg_recv(part.handle(), socket.handle(), ZMQ_DONTWAIT) >= 0) return true;
        if (errno == EAGAIN) return false;
        if (errno != EINTR) throw EnvironmentError(std::string("zmq_msg_recv failed: ") + zmq_strerror(errno));
    }
}

Pushed send_part(zmq::socket_t& socket, zmq::message_t& part, int flags) {
    for (;;) {
        if (zmq_msg_send(part.handle(), socket.handle(), ZMQ_DONTWAIT | flags) >= 0) return Pushed::yes;
        if (errno == EAGAIN) return Pushed::full;
        if (errno == EHOSTUNREACH) return Pushed::gone;
        if (errno != EINTR) throw EnvironmentError(std::string("zmq_msg_send failed: ") + zmq_strerror(errno));
    }
}

std::optional<FrameKind> kind_of(const zmq::message_t& tag) {
    if (tag.size() != 1) return std::nullopt;
    const auto kind = static_cast<FrameKind>(*tag.data<std::uint8_t>());
    switch (kind) {
    case FrameKind::open:
    case FrameKind::refuse:
    case FrameKind::header:
    case FrameKind::chunk:
    case FrameKind::took:
    case FrameKind::beat:
    case FrameKind::bye: return kind;
    }
    return std::nullopt;
}

/// A handle that ZeroMQ's I/O thread lets go of.
struct Held {
    Buffer payload;
    std::atomic<bool> filled = false; ///< orders filling and letting go, where nothing but libzmq's own queues does
};

void let_go(void*, void* hint) {
    auto* const held = static_cast<Held*>(hint);
    held->filled.load(std::memory_order_acquire);
    delete held;
}

} // namespace

bool read_frame(zmq::socket_t& socket, bool routed, Frame& frame) {
    zmq::message_t part;
    if (!receive_part(socket, part)) return false;
    bool more = part.more();
    bool complete = true;
    // All parts of a message are there once the first is.
    const auto next = [&] {
        if (more) {
            receive_part(socket, part);
            more = part.more();
        } else {
            complete = false;
        }
    };
    if (routed) {
        frame.from.assign(part.data<char>(), part.size());
        next();
    }
    frame.kind = complete ? kind_of(part) : std::nullopt;
    frame.descriptor = frame.kind == FrameKind::open ? zmq_msg_get(part.handle(), ZMQ_SRCFD) : -1;
    frame.body.rebuild();
    if (more) {
        receive_part(socket, frame.body);
        more = frame.body.more();
    }
    for (; more; more = part.more()) {
        frame.kind.reset();
        receive_part(socket, part);
    }
    return true;
}

Pushed begin_frame(zmq::socket_t& socket, const std::string& to, FrameKind kind, Body body) {
    if (!to.empty()) {
        zmq::message_t address(to.data(), to.size());
        const Pushed pushed = send_part(socket, address, ZMQ_SNDMORE);
        if (pushed != Pushed::yes) return pushed;
    }
    zmq::message_t tag(&kind, 1);
    const Pushed pushed = send_part(socket, tag, body == Body::follows ? ZMQ_SNDMORE : 0);
    // Behind a routing id that was accepted, parts of a connection that ends meanwhile are swallowed, not refused.
    CHECK(pushed == Pushed::yes || to.empty());
    return pushed;
}

void finish_frame(zmq::socket_t& socket, zmq::message_t body) {
    send_part(socket, body, 0); // refused only where the connection has ended meanwhile
}

zmq::message_t share(const Buffer& payload, std::size_t offset, std::size_t bytes) {
    auto* const held = new Held();
    held->payload = payload;
    held->filled.store(true, std::memory_order_release);
    return {const_cast<std::byte*>(payload.data()) + offset, bytes, let_go, held};
}

} // namespace lategrad
