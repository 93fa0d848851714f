/// What both ends have in common: a socket with its limits, the news of its connections, and waiting.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include <zmq.hpp>

#include "lategrad/transport/zmq.h"

namespace lategrad {

/// EnvironmentError with the name of the call and ZeroMQ's own words.
[[noreturn]] void throw_zmq_error(const char* call);

/// Bounds and heartbeats of ZeroMQ itself. Before bind and connect.
void set_limits(zmq::socket_t& socket, const ZmqLinkOptions& options);

/// How long closing waits for what ZeroMQ still holds: until `deadline`, within bounds, since a peer that takes nothing
/// would hold it up for good.
int linger_ms(Time now, Time deadline);

/// What ZeroMQ tells of a socket's connections, in the order in which it happened.
class ZmqMonitor {
  public:
    struct Event {
        int kind = 0;  ///< ZMQ_EVENT_…
        int value = 0; ///< of a disconnection: the descriptor
    };

    /// Before bind and connect. Ends before `socket` is closed; `socket` must outlive it.
    ZmqMonitor(zmq::context_t& context, zmq::socket_t& socket, int kinds);
    ~ZmqMonitor();
    ZmqMonitor(const ZmqMonitor&) = delete;
    ZmqMonitor& operator=(const ZmqMonitor&) = delete;

    /// Everything that has happened is returned before an empty answer.
    std::optional<Event> next();
    zmq::socket_t& socket() { return events_; }

  private:
    zmq::socket_t& watched_;
    zmq::socket_t events_;
};

/// Ends another thread's waiting.
class Waker {
  public:
    Waker();
    ~Waker();
    Waker(const Waker&) = delete;
    Waker& operator=(const Waker&) = delete;

    /// Any thread.
    void wake();
    /// Whether `wake` was called since the last time.
    bool exchange_woken();
    int descriptor() const { return descriptor_; }

  private:
    int descriptor_;
};

/// Waits until something happens on one of `items`, or until `until`.
void wait_for(std::span<zmq_pollitem_t> items, Time now, Time until);

} // namespace lategrad
