#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "lategrad/core/error.h"
#include "lategrad/transport/zmq_link.h"
#include "lategrad/transport/zmq_socket.h"
#include "lategrad/transport/zmq_zap.h"

namespace lategrad {
namespace {

constexpr int kEvents = ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                        ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;

/// A connection may end so soon that its end is told before its first frame is read; so each is tried once again.
constexpr Duration kTrial = std::chrono::milliseconds(50);
/// Connections that go on although we do not; the oldest are forgotten, and would be taken for new ones.
constexpr std::size_t kBannedMax = 4096;
/// Frames read in one `receive` after its deadline.
constexpr std::size_t kOverdueFrames = 64;
/// Frames between two looks at who is gone, while frames keep coming.
constexpr std::size_t kMonitorFrames = 64;

struct Connection {
    enum class State {
        open,
        ending,  ///< the connection is gone; what it sent before may still have to be read
        leaving, ///< the caller knows that it is gone; our bye is due
    };

    Connection(Peer number, int fd, ZmqLink connection_link)
        : peer(number),
          descriptor(fd),
          link(std::move(connection_link)) {}

    Peer peer;
    int descriptor;
    ZmqLink link;
    State state = State::open;
    Time beat_at = kNever;
    Time trial_at = kNever;
    Time silent_at = kNever;  ///< open: to be ended if nothing is heard until then
    Time alive_at{};          ///< when PeerAlive may be reported again
    Time leave_at = kNever;   ///< leaving: how long the bye may take
    std::uint64_t ending = 0; ///< ending: gone when so many frames have been read, if not before
};

/// Routing ids, the latest ones.
class Banned {
  public:
    void add(const std::string& id) {
        if (!ids_.insert(id).second) return;
        order_.push_back(id);
        if (order_.size() <= kBannedMax) return;
        ids_.erase(order_.front());
        order_.pop_front();
    }
    bool holds(const std::string& id) const { return ids_.contains(id); }

  private:
    std::unordered_set<std::string> ids_;
    std::deque<std::string> order_;
};

class Server final : public ZmqServerTransport {
  public:
    Server(const ZmqServerOptions& options, const Clock& clock)
        : options_(options),
          clock_(clock),
          payloads_(options.link.payloads_max * options.link.payload_bytes_max),
          socket_(context_, zmq::socket_type::router),
          connections_(options.peers_max) {
        set_limits(socket_, options_.link);
        socket_.set(zmq::sockopt::router_mandatory, true);
        socket_.set(zmq::sockopt::linger, 0);
        if (options_.keys) {
            zap_ = std::make_unique<ZapHandler>(context_, *options_.keys);
            socket_.set(zmq::sockopt::curve_server, true);
            socket_.set(zmq::sockopt::curve_secretkey, options_.keys->own.secret_key);
            socket_.set(zmq::sockopt::zap_domain, "lategrad");
        }
        monitor_ = std::make_unique<ZmqMonitor>(context_, socket_, kEvents);
        if (zmq_bind(socket_.handle(), options_.listen.c_str()) != 0) {
            const int error = zmq_errno();
            const std::string what = "cannot listen at " + options_.listen + ": ";
            if (error == EINVAL || error == EPROTONOSUPPORT || error == ENOCOMPATPROTO) {
                throw InputError(what +
                                 "it should read tcp://ADDRESS:PORT, with an address or interface of this machine");
            }
            throw EnvironmentError(what + zmq_strerror(error));
        }
        endpoint_ = socket_.get(zmq::sockopt::last_endpoint);
    }

    ~Server() override { shutdown(Time::min()); }

    const std::string& endpoint() const override { return endpoint_; }
    const ZmqFaults& faults() const override { return faults_; }
    std::size_t peers() const override {
        return static_cast<std::size_t>(std::count_if(connections_.begin(), connections_.end(), [](const auto& c) {
            return c && c->state == Connection::State::open;
        }));
    }

    SendStatus try_send(Peer to, const Message& message) override {
        Connection* const connection = at(to);
        if (closed_ || !connection || connection->state != Connection::State::open) return SendStatus::gone;
        const SendStatus status = connection->link.try_send(message, clock_.now());
        pushed(*connection);
        return status;
    }

    std::optional<Incoming> receive(Time deadline) override {
        for (std::size_t frames = 0;; ++frames) {
            if (closed_) return std::nullopt;
            const Time now = clock_.now();
            if (now >= due_) act(now);
            if (frames_ % kMonitorFrames == 0) look_for_ends();
            if (auto gone = take_gone(false)) return gone;
            if (read_frame(socket_, true, frame_)) {
                ++frames_;
                if (auto incoming = handle(now)) return incoming;
                // However much of it comes, noise does not keep the caller from what it waits for.
                const bool looks = frames % kOverdueFrames == kOverdueFrames - 1;
                if (looks && (now >= deadline || waker_.exchange_woken())) return std::nullopt;
                continue;
            }
            if (look_for_ends()) continue; // what came before an end is there now
            if (auto gone = take_gone(true)) return gone;
            if (waker_.exchange_woken() || std::exchange(writable_, false) || deadline <= now) return std::nullopt;
            wait(now, deadline);
        }
    }

    void forget(Peer peer) override {
        Connection* const connection = at(peer);
        if (!connection) return;
        connection->link.close_at_once(clock_.now());
        remove(*connection);
    }

    void wake() override { waker_.wake(); }

    void shutdown(Time deadline) override {
        if (closed_) return;
        leaving_ = true;
        Time now = clock_.now();
        for (auto& connection : connections_) {
            if (connection) connection->link.close(now);
            if (connection) pushed(*connection);
        }
        for (;;) {
            if (now >= due_) act(now);
            std::size_t frames = 0;
            while (frames++ < kMonitorFrames && read_frame(socket_, true, frame_)) handle(now);
            look_for_ends();
            const bool all_left =
                std::all_of(connections_.begin(), connections_.end(), [](const auto& c) { return !c || has_left(*c); });
            if (all_left || deadline <= now) break;
            waker_.exchange_woken();
            wait(now, deadline);
            now = clock_.now();
        }
        closed_ = true;
        monitor_.reset();
        socket_.set(zmq::sockopt::linger, linger_ms(now, deadline));
        socket_.close();
        zap_.reset();
        connections_.clear();
        context_.close();
    }

  private:
    using State = Connection::State;

    Connection* at(Peer peer) {
        if (closed_) return nullptr;
        CHECK(peer.value() - 1 < connections_.size());
        return connections_[peer.value() - 1].get();
    }

    static bool has_left(const Connection& connection) {
        return connection.link.lost() || (connection.state == State::leaving && connection.link.said_bye());
    }

    /// What the frame just read means. Nothing it says throws or lasts.
    std::optional<Incoming> handle(Time now) {
        const auto found = by_id_.find(frame_.from);
        if (found == by_id_.end()) {
            if (frame_.kind == FrameKind::open && !banned_.holds(frame_.from)) open(now);
            else faults_.count(ZmqFault::stray);
            return std::nullopt;
        }
        Connection& connection = *found->second;
        if (connection.state == State::leaving) {
            faults_.count(ZmqFault::stray);
            return std::nullopt;
        }
        connection.silent_at = silent_at(now);
        const ZmqLink::Arrival arrival = connection.link.arrived(frame_, now);
        pushed(connection);
        switch (arrival) {
        case ZmqLink::Arrival::alive:
            if (options_.link.heartbeat == Duration{0} || now < connection.alive_at) break;
            connection.alive_at = later(now, options_.link.heartbeat / 2);
            return PeerAlive{connection.peer};
        case ZmqLink::Arrival::message:
            connection.alive_at = later(now, options_.link.heartbeat / 2);
            return Received{connection.peer, connection.link.take()};
        case ZmqLink::Arrival::bye:
        case ZmqLink::Arrival::broken: return leave(connection, now);
        }
        return std::nullopt;
    }

    void open(Time now) {
        const std::string_view protocol(frame_.body.data<char>(), frame_.body.size());
        const auto free = std::find(connections_.begin(), connections_.end(), nullptr);
        if (protocol != kProtocol || leaving_ || free == connections_.end()) {
            if (protocol == kProtocol) faults_.count(ZmqFault::room);
            const RefuseReason reason = protocol == kProtocol ? RefuseReason::room : RefuseReason::version;
            banned_.add(frame_.from);
            if (begin_frame(socket_, frame_.from, FrameKind::refuse, Body::follows) == Pushed::yes) {
                finish_frame(socket_, zmq::message_t(&reason, sizeof reason));
            }
            return;
        }
        // Whoever had this descriptor before has been seen to end.
        look_for_ends();
        const Peer peer{static_cast<std::uint32_t>(free - connections_.begin()) + 1};
        *free = std::make_unique<Connection>(peer, frame_.descriptor,
                                             ZmqLink(socket_, frame_.from, options_.link, payloads_, faults_));
        Connection& connection = **free;
        by_id_.emplace(frame_.from, &connection);
        if (options_.link.heartbeat > Duration{0}) connection.beat_at = later(now, options_.link.heartbeat);
        connection.silent_at = silent_at(now);
        connection.trial_at = now + kTrial;
        connection.link.say_open(now);
        pushed(connection);
    }

    /// Nothing more of this peer counts.
    PeerGone leave(Connection& connection, Time now) {
        if (connection.state == State::ending) --ending_;
        connection.state = State::leaving;
        connection.link.close_at_once(now);
        connection.leave_at = has_left(connection) ? now : later(now, options_.link.dead_after);
        pushed(connection);
        return PeerGone{connection.peer};
    }

    /// Its number is free, and its frames are strays.
    void remove(Connection& connection) {
        const std::size_t i = connection.peer.value() - 1;
        if (connection.state == State::ending) --ending_;
        if (!connection.link.lost()) banned_.add(connection.link.to());
        by_id_.erase(connection.link.to());
        connections_[i].reset();
    }

    /// After frames were sent to it, or tried to be.
    void pushed(Connection& connection) {
        if (connection.link.lost() && connection.state == State::open) end(connection);
        if (connection.link.has_room_again()) writable_ = true;
        due_ = std::min(due_, due(connection));
    }

    static Time due(const Connection& connection) {
        const Time silent_at = connection.state == State::open ? connection.silent_at : kNever;
        return std::min(
            {connection.link.retry_at(), connection.beat_at, connection.trial_at, silent_at, connection.leave_at});
    }

    /// Of a connection heard now. Members are given up sooner; others would hold a place for ever.
    Time silent_at(Time now) const {
        return options_.link.heartbeat > Duration{0} ? later(now, 2 * options_.link.dead_after) : kNever;
    }

    /// The connection is gone. What came over it is read first: ZeroMQ takes turns among connections, and holds a few
    /// frames of each.
    void end(Connection& connection) {
        connection.link.lose();
        if (connection.state == State::open) {
            connection.state = State::ending;
            connection.ending = frames_ + 16 * (by_id_.size() + 1);
            ++ending_;
        } else {
            due_ = Time::min(); // to be removed
        }
    }

    /// The next peer to be reported gone. `drained`: all frames there were have been read.
    std::optional<Incoming> take_gone(bool drained) {
        if (ending_ == 0) return std::nullopt;
        for (const auto& connection : connections_) {
            if (!connection || connection->state != State::ending) continue;
            if (!drained && frames_ < connection->ending) continue;
            const PeerGone gone{connection->peer};
            remove(*connection);
            return gone;
        }
        return std::nullopt;
    }

    /// Hears which connections have ended. True where one of ours has.
    bool look_for_ends() {
        bool ended = false;
        while (const auto event = monitor_->next()) {
            if (event->kind != ZMQ_EVENT_DISCONNECTED) {
                faults_.count(ZmqFault::handshake);
                continue;
            }
            for (const auto& connection : connections_) {
                if (!connection || connection->descriptor != event->value || connection->link.lost()) continue;
                end(*connection);
                ended = true;
            }
        }
        return ended;
    }

    /// Whatever is due: frames to push again, beats, trials, and the end of waiting.
    void act(Time now) {
        due_ = kNever;
        for (const auto& slot : connections_) {
            if (!slot) continue;
            Connection& connection = *slot;
            if (now >= connection.link.retry_at()) connection.link.push(now);
            if (now >= connection.trial_at) {
                connection.trial_at = kNever;
                if (connection.state == State::open) connection.link.say_open(now);
            }
            if (now >= connection.beat_at) {
                connection.beat_at = later(now, options_.link.heartbeat);
                if (connection.state == State::open) connection.link.beat();
            }
            if (connection.state == State::open && now >= connection.silent_at) {
                banned_.add(connection.link.to()); // its connection may still stand
                end(connection);
            }
            const bool leaving = connection.state == State::leaving;
            if (leaving && (has_left(connection) || now >= connection.leave_at)) remove(connection);
            else pushed(connection);
        }
    }

    void wait(Time now, Time deadline) {
        std::array<zmq_pollitem_t, 3> items{{{socket_.handle(), 0, ZMQ_POLLIN, 0},
                                             {monitor_->socket().handle(), 0, ZMQ_POLLIN, 0},
                                             {nullptr, waker_.descriptor(), ZMQ_POLLIN, 0}}};
        wait_for(items, now, std::min(deadline, due_));
    }

    ZmqServerOptions options_;
    const Clock& clock_;
    BufferPool payloads_;
    ZmqFaults faults_;
    zmq::context_t context_{1};
    Waker waker_;
    std::unique_ptr<ZapHandler> zap_;
    zmq::socket_t socket_;
    std::unique_ptr<ZmqMonitor> monitor_;
    std::string endpoint_;

    std::vector<std::unique_ptr<Connection>> connections_; ///< by peer, from 1
    std::unordered_map<std::string, Connection*> by_id_;   ///< by routing id
    Banned banned_;
    std::size_t ending_ = 0;   ///< connections that are gone and not yet removed
    std::uint64_t frames_ = 0; ///< read
    Frame frame_;
    Time due_ = kNever;     ///< when `act` has something to do
    bool writable_ = false; ///< a peer that was busy can take a message again
    bool leaving_ = false;
    bool closed_ = false;
};

} // namespace

std::unique_ptr<ZmqServerTransport> listen_zmq(const ZmqServerOptions& options, const Clock& clock) {
    try {
        return std::make_unique<Server>(options, clock);
    } catch (const zmq::error_t& error) {
        throw EnvironmentError(std::string("cannot set up ZeroMQ: ") + error.what());
    }
}

} // namespace lategrad
