#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <sys/random.h>

#include "lategrad/core/error.h"
#include "lategrad/transport/zmq_link.h"
#include "lategrad/transport/zmq_socket.h"

namespace lategrad {
namespace {

constexpr int kEvents = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CLOSED |
                        ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                        ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
constexpr std::size_t kOverdueFrames = 64;
constexpr Duration kAskWhetherGivenUp = std::chrono::milliseconds(100);

/// Names this connection to the server, which keeps it apart from others by it: nobody must guess it. Short enough not
/// to be allocated; a leading zero is reserved.
std::string routing_id() {
    std::string id(12, '\0');
    if (::getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size())) {
        throw EnvironmentError("getrandom failed: no random numbers");
    }
    id[0] = 'L';
    return id;
}

class Client final : public ZmqClientTransport {
  public:
    Client(const ZmqClientOptions& options, const Clock& clock)
        : options_(options),
          clock_(clock),
          payloads_(options.link.payloads_max * options.link.payload_bytes_max),
          socket_(context_, zmq::socket_type::dealer),
          link_(socket_, {}, options_.link, payloads_, faults_) {
        set_limits(socket_, options_.link);
        socket_.set(zmq::sockopt::routing_id, routing_id());
        socket_.set(zmq::sockopt::reconnect_ivl, -1);
        socket_.set(zmq::sockopt::linger, 0);
        if (options_.keys) {
            socket_.set(zmq::sockopt::curve_serverkey, options_.keys->server);
            socket_.set(zmq::sockopt::curve_publickey, options_.keys->own.public_key);
            socket_.set(zmq::sockopt::curve_secretkey, options_.keys->own.secret_key);
        }
        monitor_ = std::make_unique<ZmqMonitor>(context_, socket_, kEvents);
    }

    ~Client() override { shutdown(Time::min()); }

    /// Without its transport.
    ZmqConnection connect(Time deadline, const std::function<bool()>& given_up) {
        if (zmq_connect(socket_.handle(), options_.server.c_str()) != 0) {
            throw InputError("cannot connect to " + options_.server + ": it should read tcp://HOST:PORT");
        }
        const Time start = clock_.now();
        link_.say_open(start);
        bool connected = false;
        for (Time now = start;; now = clock_.now()) {
            link_.push(now);
            // A refusal in words comes before the end of the connection.
            auto failure = connection_failure(connected);
            if (read_frame(socket_, false, frame_)) return first_answer(now);
            if (failure) return std::move(*failure);
            if (deadline <= now || (given_up && given_up())) {
                return refused(ZmqRefusal::silent, silence(connected, now - start));
            }
            wait(now, given_up ? std::min(deadline, now + kAskWhetherGivenUp) : deadline);
        }
    }

    const ZmqFaults& faults() const override { return faults_; }

    void set_heartbeat(Duration heartbeat, Duration dead_after) override {
        options_.link.heartbeat = heartbeat;
        options_.link.dead_after = dead_after;
        heard_at_ = clock_.now();
        beat_at_ = heartbeat > Duration{0} ? heard_at_ : kNever;
    }

    SendStatus try_send(Peer to, const Message& message) override {
        CHECK(to == kServerPeer);
        if (closed_ || gone_) return SendStatus::gone;
        return link_.try_send(message, clock_.now());
    }

    std::optional<Incoming> receive(Time deadline) override {
        for (std::size_t frames = 0;; ++frames) {
            if (closed_) return std::nullopt;
            const Time now = clock_.now();
            act(now);
            if (read_frame(socket_, false, frame_)) {
                if (auto incoming = handle(now)) return incoming;
                const bool looks = frames % kOverdueFrames == kOverdueFrames - 1;
                if (looks && (now >= deadline || waker_.exchange_woken())) return std::nullopt;
                continue;
            }
            if (look_for_end()) continue; // what came before the end is there now
            if (!gone_ && (link_.lost() || now >= dead_at())) return end(now);
            if (waker_.exchange_woken() || link_.has_room_again() || deadline <= now) return std::nullopt;
            wait(now, deadline);
        }
    }

    void forget(Peer peer) override {
        CHECK(peer == kServerPeer);
        if (!closed_ && !gone_) end(clock_.now());
    }

    void wake() override { waker_.wake(); }

    void shutdown(Time deadline) override {
        if (closed_) return;
        Time now = clock_.now();
        link_.close(now);
        for (;;) {
            act(now);
            std::size_t frames = 0;
            while (frames++ < kOverdueFrames && read_frame(socket_, false, frame_)) handle(now);
            look_for_end();
            // The server's own bye says that it has read all we sent; a connection closed before could lose some of it.
            if (link_.lost() || (gone_ && link_.said_bye()) || deadline <= now) break;
            waker_.exchange_woken();
            wait(now, deadline);
            now = clock_.now();
        }
        closed_ = true;
        monitor_.reset();
        socket_.set(zmq::sockopt::linger, link_.lost() ? 0 : linger_ms(now, deadline));
        socket_.close();
        context_.close();
    }

  private:
    ZmqConnection refused(ZmqRefusal refusal, std::string why) {
        link_.lose();
        return {.transport = nullptr, .refusal = refusal, .why = options_.server + ": " + std::move(why)};
    }

    static std::string silence(bool connected, Duration waited) {
        return fmt::format("{} within {:.3g} s", connected ? "connected, but the server did not answer" : "no answer",
                           seconds(waited));
    }

    /// Reads what has happened to the connection; what that means where it has failed.
    std::optional<ZmqConnection> connection_failure(bool& connected) {
        std::optional<ZmqConnection> failure;
        while (const auto event = monitor_->next()) {
            if (event->kind == ZMQ_EVENT_CONNECTED) connected = true;
            else if (failure) continue; // only the first says why
            else if (event->kind == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)
                failure = refused(ZmqRefusal::not_admitted, "the server did not admit this key");
            else if (!connected)
                failure = refused(ZmqRefusal::unreachable, "nobody answers there: refused or unreachable");
            else
                failure =
                    refused(ZmqRefusal::handshake,
                            "no common ground: it may have another key than the one in the worker's key file, one "
                            "of the two may have no keys, or it is no server of Lategrad's");
        }
        return failure;
    }

    ZmqConnection first_answer(Time now) {
        const std::string_view body(frame_.body.data<char>(), frame_.body.size());
        if (frame_.kind == FrameKind::open && body == kProtocol) {
            heard_at_ = now;
            if (options_.link.heartbeat > Duration{0}) beat_at_ = later(now, options_.link.heartbeat);
            return {};
        }
        gone_ = true;
        if (frame_.kind == FrameKind::refuse && body.size() == 1 &&
            static_cast<RefuseReason>(body.front()) == RefuseReason::room) {
            return refused(ZmqRefusal::room, "the server takes no more workers");
        }
        return refused(ZmqRefusal::version, "the server speaks another version of the protocol");
    }

    std::optional<Incoming> handle(Time now) {
        if (gone_) {
            faults_.count(ZmqFault::stray);
            return std::nullopt;
        }
        heard_at_ = now;
        switch (link_.arrived(frame_, now)) {
        case ZmqLink::Arrival::alive:
            if (options_.link.heartbeat == Duration{0} || now < alive_at_) break;
            alive_at_ = later(now, options_.link.heartbeat / 2);
            return PeerAlive{kServerPeer};
        case ZmqLink::Arrival::message:
            alive_at_ = later(now, options_.link.heartbeat / 2);
            return Received{kServerPeer, link_.take()};
        case ZmqLink::Arrival::bye:
        case ZmqLink::Arrival::broken: return end(now);
        }
        return std::nullopt;
    }

    PeerGone end(Time now) {
        gone_ = true;
        link_.close_at_once(now);
        return PeerGone{kServerPeer};
    }

    /// True once, when the connection is found to have ended.
    bool look_for_end() {
        bool ended = false;
        while (const auto event = monitor_->next()) ended = ended || event->kind != ZMQ_EVENT_CONNECTED;
        if (!ended || link_.lost()) return false;
        link_.lose();
        return true;
    }

    void act(Time now) {
        if (link_.waiting() && (now >= link_.retry_at() || writable_)) link_.push(now);
        writable_ = false;
        if (now < beat_at_) return;
        beat_at_ = later(now, options_.link.heartbeat);
        link_.beat();
    }

    /// ZeroMQ's own heartbeats do not see a server that hangs. Ours do where there are any.
    Time dead_at() const {
        return options_.link.heartbeat > Duration{0} ? later(heard_at_, options_.link.dead_after) : kNever;
    }

    void wait(Time now, Time deadline) {
        const bool waiting = link_.waiting();
        std::array<zmq_pollitem_t, 3> items{
            {{socket_.handle(), 0, static_cast<short>(waiting ? ZMQ_POLLIN | ZMQ_POLLOUT : ZMQ_POLLIN), 0},
             {monitor_->socket().handle(), 0, ZMQ_POLLIN, 0},
             {nullptr, waker_.descriptor(), ZMQ_POLLIN, 0}}};
        Time until = std::min({deadline, link_.retry_at(), beat_at_});
        if (!gone_) until = std::min(until, dead_at());
        wait_for(items, now, until);
        writable_ = (items[0].revents & ZMQ_POLLOUT) != 0;
    }

    ZmqClientOptions options_;
    const Clock& clock_;
    BufferPool payloads_;
    ZmqFaults faults_;
    zmq::context_t context_{1};
    Waker waker_;
    zmq::socket_t socket_;
    ZmqLink link_;
    std::unique_ptr<ZmqMonitor> monitor_;

    Frame frame_;
    Time heard_at_{};
    Time alive_at_{}; ///< when PeerAlive may be reported again
    Time beat_at_ = kNever;
    bool writable_ = false; ///< ZeroMQ has room for a frame
    bool gone_ = false;     ///< the caller knows, or does not want to
    bool closed_ = false;
};

} // namespace

ZmqConnection connect_zmq(const ZmqClientOptions& options, const Clock& clock, Time deadline,
                          const std::function<bool()>& given_up) {
    try {
        auto client = std::make_unique<Client>(options, clock);
        ZmqConnection connection = client->connect(deadline, given_up);
        if (connection.refusal == ZmqRefusal::none) connection.transport = std::move(client);
        return connection;
    } catch (const zmq::error_t& error) {
        throw EnvironmentError(std::string("cannot set up ZeroMQ: ") + error.what());
    }
}

} // namespace lategrad
