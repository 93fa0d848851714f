#include "lategrad/transport/zmq_link.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <span>
#include <utility>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

/// ZeroMQ does not tell when there is room for one peer again.
constexpr Duration kPauseMin = std::chrono::milliseconds(1);
constexpr Duration kPauseMax = std::chrono::milliseconds(20);

} // namespace

SendStatus ZmqLink::try_send(const Message& message, Time now) {
    if (lost_ || closing_) return SendStatus::gone;
    if (busy()) {
        refused_ = true;
        return SendStatus::busy;
    }
    header_out_ = encode_header(message, options_.checksum);
    header_due_ = true;
    leaving_ = message.payload;
    offset_ = 0;
    untaken_ = true;
    push(now);
    return lost_ ? SendStatus::gone : SendStatus::sent;
}

void ZmqLink::say_open(Time now) {
    open_due_ = true;
    push(now);
}

void ZmqLink::beat() {
    if (lost_ || closing_ || waiting()) return;
    if (begin_frame(socket_, to_, FrameKind::beat, Body::none) == Pushed::gone) lose();
}

void ZmqLink::close(Time now) {
    closing_ = true;
    push(now);
}

void ZmqLink::close_at_once(Time now) {
    header_due_ = false;
    leaving_.reset();
    offset_ = 0;
    close(now);
}

void ZmqLink::lose() {
    lost_ = true;
    header_due_ = false;
    leaving_.reset();
    offset_ = 0;
}

void ZmqLink::push(Time now) {
    while (!lost_) {
        if (open_due_) {
            if (!push_frame(FrameKind::open, Body::follows, now)) return;
            finish_frame(socket_, zmq::message_t(kProtocol.data(), kProtocol.size()));
            open_due_ = false;
        } else if (took_due_ > 0) {
            if (!push_frame(FrameKind::took, Body::none, now)) return;
            --took_due_;
        } else if (header_due_) {
            if (!push_frame(FrameKind::header, Body::follows, now)) return;
            finish_frame(socket_, zmq::message_t(header_out_.data(), header_out_.size()));
            header_due_ = false;
        } else if (offset_ < leaving_.bytes()) {
            if (!push_frame(FrameKind::chunk, Body::follows, now)) return;
            const std::size_t bytes = std::min(options_.chunk_bytes, leaving_.bytes() - offset_);
            finish_frame(socket_, share(leaving_, offset_, bytes));
            offset_ += bytes;
        } else if (bye_due()) {
            if (!push_frame(FrameKind::bye, Body::none, now)) return;
            said_bye_ = true;
        } else {
            leaving_.reset();
            offset_ = 0;
            return;
        }
    }
}

bool ZmqLink::push_frame(FrameKind kind, Body body, Time now) {
    switch (begin_frame(socket_, to_, kind, body)) {
    case Pushed::yes: pause_ = Duration{0}; return true;
    case Pushed::gone: lose(); return false;
    case Pushed::full: break;
    }
    pause_ = std::clamp(2 * pause_, kPauseMin, kPauseMax);
    retry_at_ = now + pause_;
    return false;
}

bool ZmqLink::has_room_again() {
    if (!refused_ || lost_ || closing_ || busy()) return false;
    refused_ = false;
    return true;
}

ZmqLink::Arrival ZmqLink::arrived(Frame& frame, Time now) {
    if (frame.kind) {
        switch (*frame.kind) {
        case FrameKind::header: return header_arrived(frame.body, now);
        case FrameKind::chunk: return chunk_arrived(frame.body, now);
        case FrameKind::took: untaken_ = false; return Arrival::alive;
        case FrameKind::open: // once more: only to see whether the connection stands
        case FrameKind::beat: return Arrival::alive;
        case FrameKind::bye: return Arrival::bye;
        case FrameKind::refuse: break;
        }
    }
    return lost_to(ZmqFault::framing);
}

ZmqLink::Arrival ZmqLink::header_arrived(const zmq::message_t& body, Time now) {
    if (rest_ > 0) return lost_to(ZmqFault::length); // one was announced and not finished
    const WireFault fault = decode_header({body.data<std::byte>(), body.size()}, decoded_);
    if (fault == WireFault::payload_too_long) return lost_to(ZmqFault::length);
    if (fault != WireFault::none) return lost_to(ZmqFault::header);
    if (decoded_.payload_bytes > options_.payload_bytes_max) return lost_to(ZmqFault::length);
    if (decoded_.payload_bytes == 0) return finish_message(now);
    arriving_ = payloads_.try_lease(decoded_.payload_bytes);
    if (!arriving_) return lost_to(ZmqFault::memory);
    rest_ = decoded_.payload_bytes;
    return Arrival::alive;
}

ZmqLink::Arrival ZmqLink::chunk_arrived(const zmq::message_t& body, Time now) {
    if (body.size() == 0 || body.size() > rest_) return lost_to(ZmqFault::framing);
    std::memcpy(arriving_.data() + (arriving_.bytes() - rest_), body.data(), body.size());
    rest_ -= body.size();
    return rest_ > 0 ? Arrival::alive : finish_message(now);
}

ZmqLink::Arrival ZmqLink::finish_message(Time now) {
    const auto& sum = decoded_.payload_checksum;
    if (sum && *sum != payload_checksum({arriving_.data(), arriving_.bytes()})) return lost_to(ZmqFault::checksum);
    say_took(now);
    if (decoded_.message.type == MessageType::beat) { // transports' own, and here a frame
        arriving_.reset();
        return Arrival::alive;
    }
    return Arrival::message;
}

Message ZmqLink::take() {
    Message message = std::move(decoded_.message);
    message.payload = std::move(arriving_);
    return message;
}

ZmqLink::Arrival ZmqLink::lost_to(ZmqFault fault) {
    arriving_.reset();
    rest_ = 0;
    faults_.count(fault);
    return Arrival::broken;
}

void ZmqLink::say_took(Time now) {
    if (closing_) return; // the peer sends no more
    ++took_due_;
    push(now);
}

} // namespace lategrad
