/// Lets in who has an admitted key (ZeroMQ RFC 27, "ZAP").
#pragma once

#include <thread>

#include <zmq.hpp>

#include "lategrad/transport/zmq_keys.h"
#include "lategrad/transport/zmq_socket.h"

namespace lategrad {

/// Answers ZeroMQ's question about each new connection of a context, on a thread of its own, until it ends. At most one
/// per context; begins before the context's first bind.
class ZapHandler {
  public:
    /// Reads `keys.admitted` again when it has changed; what cannot be read leaves those admitted who were.
    ZapHandler(zmq::context_t& context, const ServerKeys& keys);
    ~ZapHandler();

  private:
    zmq::socket_t questions_; ///< of the thread alone, once it runs
    Waker stop_;
    std::thread thread_;
};

} // namespace lategrad
