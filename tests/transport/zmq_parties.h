/// Both ends of a ZeroMQ transport in one process, on a port of 127.0.0.1 that the system chooses.
#pragma once

#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <zmq.hpp>

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
    std::atomic<bool> done = false;
    std::thread client([&] {
        try {
            connection = connect_zmq(options, clock, in(clock, patience));
        } catch (...) {
            error = std::current_exception();
        }
        done = true;
        server.wake();
    });
    while (!done) server.receive(kNever);
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

/// A client without any of our manners. Its end is one without bye.
class RawPeer {
  public:
    explicit RawPeer(const std::string& endpoint) : socket_(context_, zmq::socket_type::dealer) {
        socket_.set(zmq::sockopt::linger, 0);
        socket_.set(zmq::sockopt::rcvhwm, 1);
        socket_.connect(endpoint);
    }

    /// One ZeroMQ message of these parts.
    void send(const std::vector<std::string>& parts) {
        for (std::size_t i = 0; i < parts.size(); ++i) {
            zmq::message_t part(parts[i].data(), parts[i].size());
            socket_.send(part, i + 1 < parts.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
        }
    }
    void flush_when_it_ends() { socket_.set(zmq::sockopt::linger, 10'000); }
    void open() { send({"O", "lategrad1"}); }
    /// The next message's parts; waits for it.
    std::vector<std::string> receive() {
        std::vector<std::string> parts;
        zmq::message_t part;
        do {
            if (!socket_.recv(part)) throw std::runtime_error("nothing received");
            parts.emplace_back(part.data<char>(), part.size());
        } while (part.more());
        return parts;
    }

  private:
    zmq::context_t context_;
    zmq::socket_t socket_;
};

/// What comes next within a minute; signs of life are skipped.
inline Incoming next_of(Transport& transport, const Clock& clock) {
    for (const Time limit = in(clock, std::chrono::minutes(1)); clock.now() < limit;) {
        auto incoming = transport.receive(limit);
        if (incoming && !std::holds_alternative<PeerAlive>(*incoming)) return std::move(*incoming);
    }
    throw std::runtime_error("nothing came");
}

/// The same, while the other end works too: a frame for which there was no room leaves only there.
inline Incoming next_of(Transport& transport, Transport& other, const Clock& clock) {
    for (const Time limit = in(clock, std::chrono::minutes(1)); clock.now() < limit;) {
        other.receive(Time::min());
        auto incoming = transport.receive(in(clock, std::chrono::milliseconds(1)));
        if (incoming && !std::holds_alternative<PeerAlive>(*incoming)) return std::move(*incoming);
    }
    throw std::runtime_error("nothing came");
}

/// Lets the server work until `done`, a minute at most, whatever it receives.
template <class Done>
void serve_until(Transport& server, const Clock& clock, Done done) {
    for (const Time limit = in(clock, std::chrono::minutes(1)); !done();) {
        if (clock.now() > limit) throw std::runtime_error("it did not happen");
        server.receive(in(clock, std::chrono::milliseconds(1)));
    }
}

} // namespace lategrad::testing
