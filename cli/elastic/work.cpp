/// lategrad work: a worker of an elastic run. It needs an address and a key; everything else the server tells it.
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <exception>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "cli/commands.h"
#include "cli/elastic/welcome.h"
#include "cli/options.h"
#include "cli/signals.h"
#include "cli/training.h"
#include "lategrad/core/error.h"
#include "lategrad/core/quantity.h"
#include "lategrad/transport/zmq.h"

namespace lategrad {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// Between two attempts to reach the server: growing.
constexpr Duration kPauseMin = milliseconds(100);
constexpr Duration kPauseMax = seconds(5);
/// How long the server may take to answer.
constexpr Duration kAnswer = seconds(10);
/// How often a worker that loads its data looks what came meanwhile.
constexpr Duration kPump = milliseconds(50);
constexpr int kInterrupted = 1;
/// So many failed handshakes running, and nothing else meanwhile, are not those of a server that just starts or ends.
constexpr int kHandshakes = 4;

struct WorkOptions {
    std::string connect = "tcp://127.0.0.1:7000";
    std::string key;
    std::string data;
    std::string data_dir;
    int threads = 0; ///< 0: the run's
    std::string reconnect_for = "10m";
    std::string heartbeat = "250ms"; ///< this one and the next: until the server has told the run's, where not given
    std::string dead_after = "30s";
    bool heartbeat_given = false;
    bool dead_after_given = false;
    bool quiet = false;
};

/// The run cannot be worked on from here; trying again does not help.
class Refused : public InputError {
    using InputError::InputError;
};

class ElasticWork {
  public:
    ElasticWork(const WorkOptions& options, Signals& signals)
        : options_(options),
          signals_(signals),
          client_{.server = options.connect,
                  .link = {.payloads_max = kPayloads,
                           .heartbeat = parse_duration(options.heartbeat, "--heartbeat"),
                           .dead_after = parse_duration(options.dead_after, "--dead-after")}},
          reconnect_for_(parse_duration(options.reconnect_for, "--reconnect-for", true)),
          process_(random_name()) {
        if (!options.key.empty()) client_.keys = read_worker_key(options.key);
        check_heartbeat();
        signals.on_first([this] { interrupt(); });
    }
    ~ElasticWork() { signals_.on_first({}); }

    int run() {
        for (lost_at_ = clock_.now();;) {
            const std::string why = try_once();
            if (done_) return *done_;
            wait(why);
        }
    }

  private:
    /// Parameters: one computed on, one that waits, one that arrives.
    static constexpr std::size_t kPayloads = 3;

    /// One connection, from its beginning to its end. Why it ended, in words.
    std::string try_once() {
        ZmqConnection connection =
            connect_zmq(client_, clock_, clock_.now() + kAnswer, [this] { return interrupted(); });
        const auto refusal = connection.refusal;
        handshakes_failed_ = refusal == ZmqRefusal::handshake ? handshakes_failed_ + 1 : 0;
        if (!connection.transport) {
            // A server that has taken this worker before will do so again.
            if (refusal == ZmqRefusal::not_admitted || refusal == ZmqRefusal::version ||
                (handshakes_failed_ == kHandshakes && !problem_)) {
                throw Refused("--connect " + at_address(connection.why));
            }
            return connection.why;
        }
        ZmqClientTransport& transport = *connection.transport;
        const auto welcome = welcomed(transport);
        if (!welcome) return no_answer_;
        const Welcome told = parse_welcome({welcome->payload.data(), welcome->payload.bytes()});
        RunOptions options = options_of(told, scratch_.path());
        hear_heartbeat(options); // a server that was resumed may have another one
        transport.set_heartbeat(client_.link.heartbeat, client_.link.dead_after);
        const bool loads = !problem_ || welcome->run != run_;
        if (loads) {
            take_model(told, scratch_.path(), options);
            if (!load(transport, welcome->run, std::move(options))) return no_answer_;
        }
        pause_ = kPauseMin;
        say(fmt::format("working as worker {}{}", welcome->worker.value(), loads ? "" : " again"));

        const std::string text = traits_text(traits_);
        BufferPool memory(text.size());
        ElasticWorker elastic{.run = run_,
                              .process = process_,
                              .traits = memory.lease(text.size()),
                              .stop_with = [this](std::function<void()> ask) { hear_of_interrupts(std::move(ask)); },
                              .stopped = [this] { exit_at_once(); }};
        std::memcpy(elastic.traits.data(), text.data(), text.size());
        const WorkEnd end = lategrad::work(*problem_, welcome->worker, transport, clock_, elastic);
        lost_at_ = clock_.now();
        if (end.told_to_stop) return finish("the run is over", 0);
        if (!end.refusal) return "the server is gone";
        return refused(end.refusal->reason, end.refusal->words);
    }

    /// Says who it is. Nothing where no welcome came; no_answer_ says why.
    std::optional<Message> welcomed(Transport& transport) {
        no_answer_ = "the server does not answer";
        if (transport.try_send(kServerPeer, {.type = MessageType::join, .process = process_}) != SendStatus::sent) {
            return std::nullopt;
        }
        const Time deadline = clock_.now() + kAnswer;
        while (!interrupted() && clock_.now() < deadline) {
            const auto incoming = transport.receive(clock_.now() + kPump);
            if (!incoming) continue;
            if (is_the_end(*incoming)) return std::nullopt;
            const auto* received = std::get_if<Received>(&*incoming);
            if (received && received->message.type == MessageType::welcome) return received->message;
        }
        return std::nullopt;
    }

    /// Whether nothing more comes over this connection; no_answer_ then says why.
    bool is_the_end(const Incoming& incoming) {
        if (std::holds_alternative<PeerGone>(incoming)) {
            no_answer_ = "the connection broke";
            return true;
        }
        const auto* received = std::get_if<Received>(&incoming);
        if (!received) return false;
        const Message& message = received->message;
        if (message.type == MessageType::stop) {
            no_answer_ = finish("the run is over", 0);
        } else if (message.type == MessageType::refuse) {
            no_answer_ = refused(message.reason,
                                 {reinterpret_cast<const char*>(message.payload.data()), message.payload.bytes()});
        }
        return message.type == MessageType::stop || message.type == MessageType::refuse;
    }

    /// Makes the problem, on a thread beside the one that keeps the connection alive. False where that ended meanwhile.
    bool load(ZmqClientTransport& transport, std::uint64_t run, RunOptions options) {
        auto loading = std::async(std::launch::async, [&] {
            if (!options_.data.empty()) options.data = options_.data;
            if (!options_.data_dir.empty()) options.data_dir = options_.data_dir;
            if (options_.threads > 0) options.threads = options_.threads;
            problem_ = std::make_unique<Problem>(make_problem(resolve(options)));
            traits_ = traits_of(*problem_);
            traits_[kFrom] = fmt::format("{}:{}", host_name(), ::getpid());
        });
        bool alive = true;
        while (loading.wait_for(seconds(0)) != std::future_status::ready) {
            if (!alive) loading.wait();
            const auto incoming = transport.receive(clock_.now() + kPump);
            if (incoming && is_the_end(*incoming)) alive = false;
            if (interrupted()) exit_at_once();
        }
        loading.get();
        run_ = run;
        return alive;
    }

    /// The server's, for this connection and those to come, but for what was given here.
    void hear_heartbeat(const RunOptions& run) {
        if (!options_.heartbeat_given) options_.heartbeat = run.heartbeat;
        if (!options_.dead_after_given) options_.dead_after = run.dead_after;
        client_.link.heartbeat = parse_duration(options_.heartbeat, "--heartbeat");
        client_.link.dead_after = parse_duration(options_.dead_after, "--dead-after");
        check_heartbeat();
    }
    void check_heartbeat() const {
        if (client_.link.heartbeat > Duration::zero() && 2 * client_.link.heartbeat <= client_.link.dead_after) return;
        throw InputError(fmt::format("--heartbeat {}: expected more than 0, and twice at most --dead-after {}",
                                     options_.heartbeat, options_.dead_after));
    }

    std::string refused(Reason reason, const std::string& words) {
        if (reason != kComeAgain) throw Refused(fmt::format("--connect {}: {}", options_.connect, words));
        return words;
    }

    std::string finish(const std::string& why, int status) {
        done_ = status;
        say(why);
        return why;
    }

    /// With the address in front, once.
    std::string at_address(const std::string& why) const {
        return why.starts_with(options_.connect) ? why : fmt::format("{}: {}", options_.connect, why);
    }

    void say(const std::string& what) {
        if (!options_.quiet && what != said_) spdlog::info("{}", what);
        said_ = what;
    }

    /// Until the next attempt. Throws where that would be too late.
    void wait(const std::string& why) {
        if (interrupted()) exit_at_once();
        const Duration gone = clock_.now() - lost_at_;
        if (gone + pause_ > reconnect_for_) {
            throw EnvironmentError(fmt::format("--connect {}; given up after {:.0f} s (--reconnect-for)",
                                               at_address(why), lategrad::seconds(gone)));
        }
        say(fmt::format("{}; trying again for {}", at_address(why), options_.reconnect_for));
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, pause_, [this] { return interrupted_; });
        if (interrupted_) exit_at_once();
        pause_ = std::min(2 * pause_, kPauseMax);
    }

    // Interrupts come on the signals' thread.
    void interrupt() {
        const std::lock_guard lock(mutex_);
        interrupted_ = true;
        changed_.notify_all();
        if (ask_) ask_();
    }
    bool interrupted() {
        const std::lock_guard lock(mutex_);
        return interrupted_;
    }
    void hear_of_interrupts(std::function<void()> ask) {
        const std::lock_guard lock(mutex_);
        ask_ = std::move(ask);
        if (ask_ && interrupted_) ask_();
    }
    /// A gradient or a file that is being worked on is not worth waiting for.
    [[noreturn]] void exit_at_once() {
        std::error_code ignored;
        std::filesystem::remove_all(scratch_.path(), ignored);
        std::fflush(nullptr);
        _exit(kInterrupted);
    }

    WorkOptions options_;
    Signals& signals_;
    SteadyClock clock_;
    ZmqClientOptions client_;
    Duration reconnect_for_;
    std::uint64_t process_;
    ScratchFolder scratch_;
    std::unique_ptr<Problem> problem_;
    Traits traits_;
    std::uint64_t run_ = 0;
    Time lost_at_{};
    Duration pause_ = kPauseMin;
    std::optional<int> done_; ///< the exit status
    std::string no_answer_;
    int handshakes_failed_ = 0; ///< running
    std::string said_;

    std::mutex mutex_;
    std::condition_variable changed_;
    bool interrupted_ = false;
    std::function<void()> ask_;
};

int work_elastic(const WorkOptions& options) {
    Signals signals;
    return ElasticWork(options, signals).run();
}

} // namespace

void add_work(CLI::App& program, Command& chosen) {
    auto options = std::make_shared<WorkOptions>();
    CLI::App* command = program.add_subcommand("work", "Work for an elastic run: come, and go when you like");
    const auto add = [&](const char* name, auto& value, const char* help, const char* type) {
        return command->add_option(name, value, help)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
            ->type_name(type)
            ->capture_default_str();
    };
    add("--connect", options->connect, "where the server listens", "tcp://HOST:PORT");
    add("--key", options->key, "file made by lategrad keys new, where the server has keys", "worker.key");
    add("--reconnect-for", options->reconnect_for,
        "how long to try, with growing pauses, where the server cannot be reached or is gone", "TIME");
    add("--data-dir", options->data_dir, "where the IDX files of the run's data are, if not where the server has them",
        "DIR");
    add("--data", options->data, "the run's data, if it is elsewhere here", "DATA");
    add("--threads", options->threads, "libtorch's intra-op threads; default the run's", "N")->default_str("");
    const auto* heartbeat =
        add("--heartbeat", options->heartbeat, "how often to say that this worker lives; default the run's", "TIME")
            ->default_str("");
    const auto* dead_after = add("--dead-after", options->dead_after,
                                 "silence after which the server is taken for gone; default the run's", "TIME")
                                 ->default_str("");
    command->add_flag("--quiet", options->quiet, "say nothing but what is wrong");
    command->footer("Examples:\n"
                    "  lategrad work --connect tcp://127.0.0.1:7000\n"
                    "  lategrad work --connect tcp://server:7000 --key worker.key --data-dir /data/mnist\n");
    command->callback([=, &chosen] {
        options->heartbeat_given = heartbeat->count() > 0;
        options->dead_after_given = dead_after->count() > 0;
        chosen = [options] { return work_elastic(*options); };
    });
}

} // namespace lategrad
