/// One connection over ZeroMQ, as seen from one end: messages cut into frames, and put together from them.
#pragma once

#include <cstdint>
#include <string>

#include <zmq.hpp>

#include "lategrad/transport/zmq.h"
#include "lategrad/transport/zmq_frame.h"

namespace lategrad {

/// One message at a time is on its way: a second is refused until the first has been handed over and its receiver has
/// said that it took it. So a receiver that takes nothing is found busy at once, whatever the buffers between would
/// hold.
class ZmqLink {
  public:
    /// What a frame amounts to.
    enum class Arrival {
        alive,   ///< the peer lives
        message, ///< a whole one, for `take`
        bye,     ///< nothing more will come
        broken,  ///< what it sends makes no sense, or a message of it is lost: the connection is to end
    };

    /// `to` as in begin_frame. What is referred to must outlive the link.
    ZmqLink(zmq::socket_t& socket, std::string to, const ZmqLinkOptions& options, BufferPool& payloads,
            ZmqFaults& faults)
        : socket_(socket),
          to_(std::move(to)),
          options_(options),
          payloads_(payloads),
          faults_(faults) {}

    const std::string& to() const { return to_; }

    SendStatus try_send(const Message& message, Time now);
    /// Client: asks to be taken in; server: tells that it is.
    void say_open(Time now);
    /// Tells the peer that we live, unless frames are waiting anyway.
    void beat();
    /// Takes no more messages; says bye once the one on its way has been handed over.
    void close(Time now);
    /// The same, and gives up what is on its way: the peer listens no more.
    void close_at_once(Time now);
    /// The connection has ended.
    void lose();

    /// Hands over what is waiting, as far as there is room.
    void push(Time now);
    /// When to push again; kNever where nothing waits.
    Time retry_at() const { return waiting() ? retry_at_ : kNever; }
    /// Frames wait for room.
    bool waiting() const { return !lost_ && (open_due_ || took_due_ > 0 || has_frames() || bye_due()); }

    Arrival arrived(Frame& frame, Time now);
    /// REQUIRES: the last frame was a message's last; called once.
    Message take();

    bool lost() const { return lost_; }
    bool closing() const { return closing_; }
    bool said_bye() const { return said_bye_; }
    /// Once true after a message was refused: the next one would be taken.
    bool has_room_again();

  private:
    bool has_frames() const { return header_due_ || offset_ < leaving_.bytes(); }
    bool busy() const { return untaken_ || has_frames(); }
    bool bye_due() const { return closing_ && !said_bye_ && !has_frames(); }
    /// True where the frame, but for its body, went.
    bool push_frame(FrameKind kind, Body body, Time now);

    Arrival header_arrived(const zmq::message_t& body, Time now);
    Arrival chunk_arrived(const zmq::message_t& body, Time now);
    Arrival finish_message(Time now);
    /// What was sent is not delivered. Whoever sent it would wait in vain for what comes of it.
    Arrival lost_to(ZmqFault fault);
    void say_took(Time now);

    zmq::socket_t& socket_;
    std::string to_;
    const ZmqLinkOptions& options_;
    BufferPool& payloads_;
    ZmqFaults& faults_;

    Header header_out_{};
    bool header_due_ = false;
    Buffer leaving_;
    std::size_t offset_ = 0; ///< how much of it was handed over
    bool untaken_ = false;   ///< the peer has not yet taken the last message
    bool refused_ = false;   ///< a message found this link busy since it last had room
    bool open_due_ = false;
    std::uint32_t took_due_ = 0;
    bool closing_ = false;
    bool said_bye_ = false;
    bool lost_ = false;
    Duration pause_{0}; ///< since the way is full
    Time retry_at_;

    DecodedHeader decoded_;
    Buffer arriving_;
    std::uint64_t rest_ = 0; ///< bytes of the payload still to come; 0: a header is awaited
};

} // namespace lategrad
