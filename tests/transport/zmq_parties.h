/// Both ends of a ZeroMQ transport in one process, on a port of 127.0.0.1 that the system chooses.
#pragma once

#include <chrono>
#include <memory>
#include <stdexcept>
#include <thread>
#include <utility>

#include "lategrad/transport/zmq.h"

namespace lategrad::testing {

inline Time in(const Clock& clock, Duration wait) {
    return clock.now() + wait;
}

inline std::unique_ptr<ZmqServerTransport> listen(const Clock& clock, ZmqServerOptions options = {}) {
    options.listen = "tcp://127.0.0.1:*";
    return listen_zmq(options, clock);
}

/// Connects while the server takes it in; nothing else may arrive there meanwhile.
inline ZmqConnection connect(const Clock& clock, ZmqServerTransport& server, ZmqClientOptions options = {},
                             Duration patience = std::chrono::seconds(20)) {
    options.server = server.endpoint();
    ZmqConnection connection;
    std::exception_ptr error;
    std::thread client([&] {
        try {
            connection = connect_zmq(options, clock, in(clock, patience));
        } catch (...) {
            error = std::current_exception();
        }
        server.wake();
    });
    while (server.receive(kNever)) {
    }
    client.join();
    if (error) std::rethrow_exception(error);
    return connection;
}

/// The same, where it must succeed.
inline std::unique_ptr<ZmqTransport> connected(const Clock& clock, ZmqServerTransport& server,
                                               const ZmqClientOptions& options = {}) {
    ZmqConnection connection = connect(clock, server, options);
    if (!connection.transport) throw std::runtime_error(connection.why);
    return std::move(connection.transport);
}

} // namespace lategrad::testing
