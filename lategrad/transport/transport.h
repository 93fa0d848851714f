/// Moves messages between the server and its workers. One contract, tested by one suite over every implementation
/// (tests/transport): order per peer, any payload from 0 bytes to kPayloadBytesMax, a peer that leaves, shutdown.
#pragma once

#include <optional>
#include <variant>

#include "lategrad/core/time.h"
#include "lategrad/wire/message.h"

namespace lategrad {

struct PeerGone {
    Peer peer;
};

struct Received {
    Peer peer;
    Message message;
};

/// A heartbeat or a part of a message has come from this peer: it lives. Not more often than needed to see that.
struct PeerAlive {
    Peer peer;
};

/// What `receive` returns: a whole message, a sign of life, or the news that a peer is gone. Nothing of a peer follows
/// its PeerGone.
using Incoming = std::variant<Received, PeerGone, PeerAlive>;

enum class SendStatus {
    sent, ///< taken over; will arrive in order
    busy, ///< the way to this peer is full: keep the message and try again after the next `receive`
    gone, ///< the peer is gone; the message went nowhere
};

/// One end of a run's links. Every call but `wake` comes from the one communication thread.
class Transport {
  public:
    virtual ~Transport() = default;

    /// Takes the message over or refuses it; never blocks and never queues without bound. The payload is held, and must
    /// not be written, until it has left.
    virtual SendStatus try_send(Peer to, const Message& message) = 0;

    /// The next message or departure. Blocks until there is one, until `deadline` (run clock), until `wake` is called,
    /// or until a peer that was busy can take a message again; an empty answer means one of the latter. A deadline in
    /// the past does not block.
    virtual std::optional<Incoming> receive(Time deadline) = 0;

    /// The caller has given this peer up: nothing more of it is delivered, not its PeerGone either, and what was on its
    /// way to it need not arrive.
    virtual void forget(Peer peer) = 0;

    /// Makes a `receive` that blocks, or the next one, return at once. Any thread.
    virtual void wake() = 0;

    /// Sends what was taken over, then closes all links; peers see PeerGone. Waits until `deadline` at most.
    virtual void shutdown(Time deadline) = 0;
};

} // namespace lategrad
