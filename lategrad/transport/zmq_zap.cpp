#include "lategrad/transport/zmq_zap.h"

#include <array>
#include <csignal>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <sys/stat.h>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

/// The keys of a file, as it is now.
class Admitted {
  public:
    explicit Admitted(const ServerKeys& keys)
        : path_(keys.admitted),
          warn_(keys.warn),
          stamp_(stamp()),
          keys_(read_admitted(path_)) {}

    bool holds(std::string_view key) {
        const Stamp now = stamp();
        if (now != stamp_) {
            try {
                keys_ = read_admitted(path_);
                stamp_ = now;
            } catch (const InputError& error) { // somebody is editing it
                if (warn_ && std::exchange(warned_of_, now) != now) warn_(error.what());
            }
        }
        return keys_.contains(std::string(key));
    }

  private:
    using Stamp = std::tuple<::ino_t, ::off_t, ::time_t, long>;

    Stamp stamp() const {
        struct ::stat status {};
        if (::stat(path_.c_str(), &status) != 0) return {};
        return {status.st_ino, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
    }

    std::filesystem::path path_;
    std::function<void(const std::string&)> warn_;
    Stamp stamp_;     ///< of what was read
    Stamp warned_of_; ///< of what could not be
    std::set<std::string> keys_;
};

/// The parts of a question: version, request id, domain, address, routing id, mechanism, credentials.
constexpr std::size_t kParts = 7;

bool receive_question(zmq::socket_t& socket, std::vector<std::string>& parts) {
    parts.clear();
    zmq::message_t part;
    do {
        if (!socket.recv(part, zmq::recv_flags::dontwait)) return false;
        parts.emplace_back(part.data<char>(), part.size());
    } while (part.more());
    return true;
}

void answer(zmq::socket_t& socket, const std::string& request, bool admitted) {
    const std::array<std::string_view, 6> parts{
        "1.0", request, admitted ? "200" : "400", admitted ? "OK" : "not admitted", "", ""};
    for (std::size_t i = 0; i < parts.size(); ++i) {
        zmq::message_t part(parts[i].data(), parts[i].size());
        socket.send(part, i + 1 < parts.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
    }
}

void serve(zmq::socket_t& questions, Waker& stop, Admitted admitted) {
    ::sigset_t all; // signals are the business of other threads
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    std::vector<std::string> parts;
    std::array<zmq_pollitem_t, 2> items{
        {{questions.handle(), 0, ZMQ_POLLIN, 0}, {nullptr, stop.descriptor(), ZMQ_POLLIN, 0}}};
    while (!stop.exchange_woken()) {
        wait_for(items, Time{}, kNever);
        while (receive_question(questions, parts)) {
            std::array<char, 41> key{};
            const bool curve = parts.size() == kParts && parts[5] == "CURVE" && parts[6].size() == 32 &&
                               zmq_z85_encode(key.data(), reinterpret_cast<const std::uint8_t*>(parts[6].data()), 32);
            answer(questions, parts.size() > 1 ? parts[1] : std::string{}, curve && admitted.holds(key.data()));
        }
    }
    questions.close();
}

} // namespace

ZapHandler::ZapHandler(zmq::context_t& context, const ServerKeys& keys) : questions_(context, zmq::socket_type::rep) {
    questions_.set(zmq::sockopt::linger, 0);
    questions_.bind("inproc://zeromq.zap.01");
    thread_ =
        std::thread([this, admitted = Admitted(keys)]() mutable { serve(questions_, stop_, std::move(admitted)); });
}

ZapHandler::~ZapHandler() {
    stop_.wake();
    thread_.join();
}

} // namespace lategrad
