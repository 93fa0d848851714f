/// What travels over a ZeroMQ connection: frames of a tag and a body, each a ZeroMQ message of its own. The one
/// boundary to ZeroMQ's sending and receiving.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <zmq.hpp>

#include "lategrad/core/buffer.h"

namespace lategrad {

/// The tag: one byte, a ZeroMQ part of its own, so that a chunk lies in its part alone and need not be copied to be
/// sent.
enum class FrameKind : std::uint8_t {
    open = 'O',   ///< client: here I am; server: and are taken in. Body: kProtocol
    refuse = 'R', ///< server: not taken in. Body: a RefuseReason
    header = 'H', ///< of a message. Body: a Header
    chunk = 'C',  ///< the next bytes of its payload
    took = 'T',   ///< the message has arrived, and the next one may come
    beat = 'B',   ///< I live
    bye = 'E',    ///< nothing more will come
};

enum class RefuseReason : std::uint8_t { room = 1, version = 2 };

/// Changes with the meaning of frames.
inline constexpr std::string_view kProtocol = "lategrad1";

struct Frame {
    std::string from;              ///< the connection's routing id, at the server
    int descriptor = -1;           ///< open: of the connection it came over, as monitors name it too
    std::optional<FrameKind> kind; ///< none: no frame of ours
    zmq::message_t body;
};

enum class Pushed {
    yes,
    full, ///< not now
    gone, ///< the connection is no more
};

enum class Body { none, follows };

/// Takes the next frame, if one is there. `routed`: at the server, where routing ids come before frames. Whatever a
/// peer sends is read as a frame, perhaps one of no kind.
bool read_frame(zmq::socket_t& socket, bool routed, Frame& frame);

/// Begins a frame, or does nothing. `to`: a routing id; empty at a client. After `yes` with Body::follows,
/// `finish_frame` must come next.
Pushed begin_frame(zmq::socket_t& socket, const std::string& to, FrameKind kind, Body body);
void finish_frame(zmq::socket_t& socket, zmq::message_t body);

/// These bytes of the payload, which is held until they have left. REQUIRES: offset + bytes <= payload.bytes().
zmq::message_t share(const Buffer& payload, std::size_t offset, std::size_t bytes);

} // namespace lategrad
