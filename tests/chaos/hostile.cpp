#include "tests/chaos/hostile.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <zmq.hpp>

#include "lategrad/core/error.h"
#include "lategrad/core/random.h"
#include "lategrad/transport/clock.h"
#include "lategrad/transport/zmq.h"
#include "lategrad/wire/message.h"
#include "tests/chaos/network.h"

namespace lategrad::chaos {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kPatience = seconds(5);
constexpr int kLinger = 500; ///< milliseconds
constexpr Duration kHeartbeat = milliseconds(250);

std::string noise(RandomStream& random, std::size_t bytes) {
    std::string text(bytes, '\0');
    for (char& byte : text) byte = static_cast<char>(random() >> 56);
    return text;
}

std::string text_of(const Header& header) {
    return {reinterpret_cast<const char*>(header.data()), header.size()};
}

/// A ZeroMQ client without any of our manners.
class Raw {
  public:
    Raw(const Target& target, const WorkerKeys* keys) : socket_(context_, zmq::socket_type::dealer) {
        socket_.set(zmq::sockopt::linger, kLinger);
        socket_.set(zmq::sockopt::sndtimeo, 1000);
        socket_.set(zmq::sockopt::rcvtimeo, 1000);
        if (keys) {
            socket_.set(zmq::sockopt::curve_serverkey, keys->server);
            socket_.set(zmq::sockopt::curve_publickey, keys->own.public_key);
            socket_.set(zmq::sockopt::curve_secretkey, keys->own.secret_key);
        }
        socket_.connect(target.server);
    }
    void send(const std::vector<std::string>& parts) {
        for (std::size_t i = 0; i < parts.size(); ++i) {
            zmq::message_t part(parts[i].data(), parts[i].size());
            socket_.send(part, i + 1 < parts.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
        }
    }
    void open() { send({"O", "lategrad1"}); }
    /// Whether anything comes within a second.
    bool answered() {
        zmq::message_t part;
        return socket_.recv(part).has_value();
    }

  private:
    zmq::context_t context_;
    zmq::socket_t socket_;
};

class Attack {
  public:
    Attack(const Target& target, std::uint64_t seed, const std::atomic<bool>& stop)
        : target_(target),
          stop_(stop),
          random_(seed, Purpose::failures, {0xbad}) {}

    Attacked noise_over_tcp();
    Attacked noise_without_key();
    Attacked noise_with_key();
    Attacked wrong_headers();
    Attacked senseless_frames();
    Attacked no_key();
    Attacked foreign_key();
    Attacked stranger();
    Attacked another_model();
    Attacked another_run();
    Attacked hangs_up();
    Attacked not_finite();
    Attacked wrong_pushes();
    Attacked wrong_sizes();

  private:
    ZmqConnection connect(std::optional<WorkerKeys> keys) {
        return connect_zmq({.server = target_.server,
                            .keys = std::move(keys),
                            .link = {.payloads_max = 4, .heartbeat = kHeartbeat, .dead_after = seconds(30)}},
                           clock_, clock_.now() + kPatience);
    }
    bool connect() {
        ZmqConnection connection = connect(target_.keys);
        transport_ = std::move(connection.transport);
        why_ = connection.why;
        return transport_ != nullptr;
    }
    bool send(Message message) {
        for (const Time until = clock_.now() + kPatience; clock_.now() < until && !stop_;) {
            const SendStatus status = transport_->try_send(kServerPeer, message);
            if (status == SendStatus::sent) return true;
            if (status == SendStatus::gone) return false;
            transport_->receive(clock_.now() + milliseconds(20));
        }
        return false;
    }
    /// The next message of one of these types. Nothing within a while, or once the connection is gone.
    std::optional<Message> next(std::initializer_list<MessageType> types, Duration patience = kPatience) {
        for (const Time until = clock_.now() + patience; clock_.now() < until && !stop_;) {
            auto incoming = transport_->receive(std::min(until, clock_.now() + milliseconds(100)));
            if (!incoming) continue;
            if (std::holds_alternative<PeerGone>(*incoming)) return std::nullopt;
            auto* received = std::get_if<Received>(&*incoming);
            if (!received) continue;
            for (const MessageType type : types) {
                if (received->message.type == type) return std::move(received->message);
            }
        }
        return std::nullopt;
    }
    Buffer payload(std::span<const std::byte> bytes) {
        Buffer buffer = memory_.lease(bytes.size());
        std::memcpy(buffer.data(), bytes.data(), bytes.size());
        return buffer;
    }
    Buffer floats(std::size_t count, float value) {
        Buffer buffer = memory_.lease(count * sizeof(float));
        for (float& element : buffer.floats()) element = value;
        return buffer;
    }
    std::optional<Message> welcomed() {
        process_ = random_();
        if (!send({.type = MessageType::join, .process = process_})) return std::nullopt;
        return next({MessageType::welcome});
    }
    Message hello(const Message& welcome) const {
        return {.type = MessageType::hello,
                .worker = welcome.worker,
                .incarnation = welcome.incarnation,
                .run = welcome.run,
                .examples = welcome.examples,
                .process = process_,
                .elements = target_.elements};
    }
    std::optional<Message> let_in();
    Message push_for(const Message& parameters) const {
        return {.type = MessageType::push,
                .worker = parameters.worker,
                .incarnation = parameters.incarnation,
                .run = parameters.run,
                .step = parameters.step,
                .version = parameters.version,
                .examples = examples_,
                .loss = 1,
                .compute_seconds = 0.001};
    }
    void leave() {
        transport_->shutdown(clock_.now() + milliseconds(500));
        transport_.reset();
    }
    Attacked refused_hello(const char* what, Message hello);

    const Target& target_;
    const std::atomic<bool>& stop_;
    RandomStream random_;
    SteadyClock clock_;
    BufferPool memory_{std::size_t{64} << 20};
    std::unique_ptr<ZmqTransport> transport_;
    std::string why_;
    std::uint64_t process_ = 0;
    std::uint32_t examples_ = 0;
};

Attacked Attack::noise_over_tcp() {
    const std::string address = target_.server.substr(target_.server.find("//") + 2);
    const std::size_t colon = address.rfind(':');
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (getaddrinfo(address.substr(0, colon).c_str(), address.substr(colon + 1).c_str(), &hints, &found) != 0) {
        return {"", "no address", ""};
    }
    const int number = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool connected = number >= 0 && ::connect(number, found->ai_addr, found->ai_addrlen) == 0;
    freeaddrinfo(found);
    std::size_t sent = 0;
    while (connected && sent < 200'000) {
        const std::string bytes = noise(random_, 1 + random_.below(4096));
        const ssize_t count = ::send(number, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count <= 0) break;
        sent += static_cast<std::size_t>(count);
    }
    if (number >= 0) close(number);
    return {"", fmt::format("{} bytes taken", sent), ""};
}

Attacked Attack::noise_without_key() {
    Raw raw(target_, nullptr);
    raw.open();
    for (int i = 0; i < 20; ++i) raw.send({noise(random_, random_.below(300)), noise(random_, random_.below(5000))});
    if (raw.answered()) return {"", "an answer", "a client without a key is answered"};
    return {"", "no answer", ""};
}

Attacked Attack::noise_with_key() {
    Raw raw(target_, &target_.keys);
    for (int i = 0; i < 50; ++i) {
        std::vector<std::string> parts(1 + random_.below(5));
        for (std::string& part : parts) part = noise(random_, random_.below(2000));
        raw.send(parts);
    }
    return {"", "sent", ""};
}

Attacked Attack::wrong_headers() {
    // Each ends its connection.
    const auto send_alone = [&](const std::vector<std::vector<std::string>>& frames) {
        if (stop_) return;
        Raw raw(target_, &target_.keys);
        raw.open();
        for (const auto& frame : frames) raw.send(frame);
    };
    const auto flipped = [&](std::string bytes) {
        const std::uint64_t bit = random_.below(8 * bytes.size());
        bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
        return bytes;
    };
    Message push{.type = MessageType::push, .payload = floats(25, 1)};
    const std::string good = text_of(encode_header(push, PayloadChecksum::yes));
    const std::string bytes(reinterpret_cast<const char*>(push.payload.data()), push.payload.bytes());
    send_alone({{"H", noise(random_, 128)}});
    send_alone({{"H", ""}});
    send_alone({{"H", good.substr(0, 40)}});
    send_alone({{"H", good + "more"}});
    for (int i = 0; i < 10; ++i) {
        send_alone({{"H", flipped(good)}, {"C", bytes}});
        send_alone({{"H", good}, {"C", flipped(bytes)}}); // which its checksum covers
    }
    return {"", "sent", ""};
}

Attacked Attack::senseless_frames() {
    const std::vector<std::vector<std::string>> kinds{
        {"X", "abc"},         {"HH"},    {"", "x"},         {""}, {"C", "abc"}, {"R", "x"},
        {"H", "a", "b", "c"}, {"T", ""}, {"O", "lategrad0"}};
    for (const auto& frames : kinds) {
        if (stop_) break;
        Raw raw(target_, &target_.keys);
        raw.open();
        for (int i = 0; i < 3; ++i) raw.send(frames);
    }
    return {"", "sent", ""};
}

Attacked Attack::no_key() {
    const ZmqConnection connection = connect(std::nullopt);
    if (connection.transport) return {"", "connected", "a client without a key is let in"};
    return {"", connection.why, ""};
}

Attacked Attack::foreign_key() {
    WorkerKeys keys = target_.keys;
    std::array<char, 41> open{}, secret{};
    CHECK(zmq_curve_keypair(open.data(), secret.data()) == 0);
    keys.own = {open.data(), secret.data()};
    const ZmqConnection connection = connect(keys);
    if (connection.transport) return {"", "connected", "a client whose key is not admitted is let in"};
    return {"", connection.why, ""};
}

Attacked Attack::stranger() {
    if (!connect()) return {"", why_, ""};
    for (const MessageType type :
         {MessageType::push, MessageType::parameters, MessageType::welcome, MessageType::refuse, MessageType::stop,
          MessageType::hello, MessageType::goodbye, MessageType::push}) {
        if (!send({.type = type, .worker = WorkerId{static_cast<std::uint32_t>(random_.below(8))}})) break;
    }
    const auto answer = next({MessageType::parameters, MessageType::refuse}, seconds(1));
    const bool works = answer && answer->type == MessageType::parameters;
    leave();
    return {"", answer ? "refused" : "no answer", works ? "a stranger is given parameters" : ""};
}

Attacked Attack::refused_hello(const char* what, Message hello) {
    if (!send(std::move(hello))) return {"", "gone", ""};
    const auto answer = next({MessageType::parameters, MessageType::refuse});
    const bool works = answer && answer->type == MessageType::parameters;
    leave();
    return {"",
            !answer ? "no answer"
            : works ? "parameters"
                    : "refused",
            works ? fmt::format("{} is given parameters", what) : ""};
}

Attacked Attack::another_model() {
    if (!connect()) return {"", why_, ""};
    const auto welcome = welcomed();
    if (!welcome) return {"", "not welcomed", ""};
    Message message = hello(*welcome);
    message.elements += 1 + random_.below(1000);
    const std::string traits = R"({"data":"none","parameters":"none"})";
    message.payload = payload(std::as_bytes(std::span(traits)));
    return refused_hello("a worker with another model", std::move(message));
}

Attacked Attack::another_run() {
    if (!connect()) return {"", why_, ""};
    const auto welcome = welcomed();
    if (!welcome) return {"", "not welcomed", ""};
    Message message = hello(*welcome);
    message.run ^= 1;
    message.process ^= 1;
    return refused_hello("a worker of another run", std::move(message));
}

Attacked Attack::hangs_up() {
    for (int i = 0; i < 4 && !stop_; ++i) {
        if (!connect()) return {"", why_, ""};
        if (random_.below(2) == 0) welcomed();
        else send({.type = MessageType::join, .process = random_()});
        transport_.reset(); // without goodbye, and without hello
    }
    return {"", "hung up", ""};
}

/// As a worker, with the traits that the server's refusal tells. Its first parameters.
std::optional<Message> Attack::let_in() {
    if (!connect()) return std::nullopt;
    auto welcome = welcomed();
    if (!welcome) return std::nullopt;
    Message first = hello(*welcome);
    first.payload = payload(std::as_bytes(std::span("{}", 2)));
    if (!send(std::move(first))) return std::nullopt;
    const auto refusal = next({MessageType::refuse});
    if (!refusal) return std::nullopt;
    // NAME: VALUE on the server, nothing on the worker; …
    const std::string words(reinterpret_cast<const char*>(refusal->payload.data()), refusal->payload.bytes());
    std::string traits;
    for (std::size_t begin = 0; begin < words.size();) {
        constexpr std::string_view middle = " on the server, nothing on the worker";
        const std::size_t colon = words.find(": ", begin), end = words.find(middle, begin);
        if (colon == words.npos || end == words.npos || end < colon) break;
        traits += fmt::format("{}\"{}\":\"{}\"", traits.empty() ? "" : ",", words.substr(begin, colon - begin),
                              words.substr(colon + 2, end - colon - 2));
        begin = end + middle.size() + 2;
    }
    leave();
    if (!connect()) return std::nullopt;
    welcome = welcomed();
    if (!welcome) return std::nullopt;
    Message second = hello(*welcome);
    traits = "{" + traits + "}";
    second.payload = payload(std::as_bytes(std::span(traits)));
    examples_ = welcome->examples;
    if (!send(std::move(second))) return std::nullopt;
    return next({MessageType::parameters});
}

Attacked Attack::not_finite() {
    auto parameters = let_in();
    if (!parameters) return {"", "not let in", ""};
    int pushed = 0;
    for (; parameters && pushed < 15 && !stop_; ++pushed) {
        Message push = push_for(*parameters);
        push.payload = floats(target_.elements, pushed % 2 == 0 ? std::numeric_limits<float>::quiet_NaN()
                                                                : std::numeric_limits<float>::infinity());
        if (pushed % 3 == 0) push.loss = std::nan("");
        if (!send(std::move(push))) break;
        parameters = next({MessageType::parameters, MessageType::refuse});
        if (parameters && parameters->type == MessageType::refuse) {
            return {"", fmt::format("excluded after {}", pushed + 1), ""};
        }
    }
    transport_.reset();
    return {"", fmt::format("pushed {}", pushed), ""};
}

Attacked Attack::wrong_pushes() {
    const auto parameters = let_in();
    if (!parameters) return {"", "not let in", ""};
    const Message good = push_for(*parameters);
    const auto wrong = [&](auto change) {
        Message push = good;
        push.payload = floats(target_.elements, 1e-6f);
        change(push);
        send(std::move(push));
    };
    wrong([](Message& push) { push.run ^= 1; });
    wrong([](Message& push) { push.worker = WorkerId{push.worker.value() + 1}; });
    wrong([](Message& push) { push.worker = WorkerId{0xffffffff}; });
    wrong([](Message& push) { push.incarnation = push.incarnation.next(); });
    wrong([](Message& push) { push.step = push.step.next(); });
    wrong([](Message& push) { push.step = Step{~std::uint64_t{0}}; });
    wrong([](Message& push) { push.version = push.version.next(); });
    wrong([](Message& push) { push.version = Version{~std::uint64_t{0}}; });
    for (int i = 0; i < 3; ++i) wrong([](Message&) {}); // a good one, and the same twice again
    next({MessageType::parameters}, seconds(2));
    send({.type = MessageType::goodbye, .worker = good.worker, .run = good.run});
    wrong([](Message&) {});
    leave();
    return {"", "pushed", ""};
}

Attacked Attack::wrong_sizes() {
    auto parameters = let_in();
    if (!parameters) return {"", "not let in", ""};
    const std::uint64_t elements = target_.elements;
    int pushed = 0;
    const std::pair<std::size_t, float> kinds[] = {{0, 0},
                                                   {1, 1},
                                                   {elements - 1, 1},
                                                   {elements, 1e30f},
                                                   {elements, 1e4f},
                                                   {elements, std::numeric_limits<float>::max()}};
    for (const auto& [count, value] : kinds) {
        Message push = push_for(*parameters);
        push.payload = floats(count, value);
        if (!send(std::move(push))) break;
        ++pushed;
        parameters = next({MessageType::parameters});
        if (!parameters || stop_) break;
    }
    transport_.reset();
    return {"", fmt::format("pushed {}", pushed), ""};
}

struct Named {
    std::string_view name;
    Attacked (Attack::*run)();
};
constexpr Named kAttacks[] = {{"noise over TCP", &Attack::noise_over_tcp},
                              {"noise over ZeroMQ without a key", &Attack::noise_without_key},
                              {"noise over ZeroMQ with a key", &Attack::noise_with_key},
                              {"wrong headers and flipped bits", &Attack::wrong_headers},
                              {"frames that make no sense", &Attack::senseless_frames},
                              {"a client without a key", &Attack::no_key},
                              {"a client with another key", &Attack::foreign_key},
                              {"messages of a stranger", &Attack::stranger},
                              {"a hello of another model", &Attack::another_model},
                              {"a hello of another run", &Attack::another_run},
                              {"clients that hang up", &Attack::hangs_up},
                              {"gradients that are not finite", &Attack::not_finite},
                              {"pushes of another run, worker, step", &Attack::wrong_pushes},
                              {"gradients of a wrong size or norm", &Attack::wrong_sizes}};

} // namespace

std::size_t attacks() {
    return std::size(kAttacks);
}

std::string attack_name(std::uint64_t pick) {
    return std::string(kAttacks[pick % attacks()].name);
}

Attacked attack(std::uint64_t pick, std::uint64_t seed, const Target& target, const std::atomic<bool>& stop) {
    Attacked attacked;
    try {
        if (!target.network.empty()) enter_network(target.network);
        Attack one(target, seed, stop);
        attacked = (one.*kAttacks[pick % attacks()].run)();
    } catch (const std::exception& error) {
        attacked.came_of_it = error.what();
    }
    attacked.what = attack_name(pick);
    return attacked;
}

} // namespace lategrad::chaos
