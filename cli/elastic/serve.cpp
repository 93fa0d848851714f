/// lategrad serve: the server of an elastic run, whose workers come and go.
#include <cstring>
#include <memory>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "cli/commands.h"
#include "cli/config.h"
#include "cli/elastic/narrator.h"
#include "cli/elastic/welcome.h"
#include "cli/options.h"
#include "cli/recorder.h"
#include "cli/signals.h"
#include "cli/training.h"
#include "lategrad/core/error.h"
#include "lategrad/core/quantity.h"
#include "lategrad/transport/zmq.h"

namespace lategrad {
namespace {

constexpr std::size_t kPlacesMax = 100'000;
/// A connection each, and some for those that come and go.
constexpr std::size_t kSparePeers = 16;
/// Of one worker, besides what is held: one that arrives.
constexpr std::size_t kPayloadsArriving = 2;
/// Of what is held for an update: the update, a checkpoint being written and one that waits.
constexpr std::size_t kHolders = 3;
constexpr std::size_t kWordsBytesMax = 64 * 1024; ///< what is said at the handshake

/// Options of this command alone.
struct ServeOptions {
    std::string listen = "tcp://127.0.0.1:7000";
    std::string keys;
    bool insecure = false;
    std::size_t min_workers = 0;
    std::size_t workers_max = 0;
    std::string reassign_after = "30s";

    std::string toml() const {
        std::string lines = "\n[serve]\n" + toml_line("listen", listen);
        if (!keys.empty()) lines += toml_line("keys", std::filesystem::absolute(keys).string());
        if (insecure) lines += "insecure = true\n";
        lines += fmt::format("min-workers = {}\nworkers-max = {}\n", min_workers, workers_max);
        return lines + toml_line("reassign-after", reassign_after);
    }
};

bool is_loopback(const std::string& listen) {
    return listen.starts_with("tcp://127.") || listen.starts_with("tcp://localhost:") ||
           listen.starts_with("tcp://[::1]:");
}

std::optional<ServerKeys> keys_of(const ServeOptions& own) {
    if (!own.keys.empty()) {
        if (own.insecure) throw InputError("--insecure: goes without --keys");
        ServerKeys keys = read_server_keys(own.keys);
        keys.warn = [](const std::string& what) {
            spdlog::warn("{}; until it is mended, who was let in still is", what);
        };
        return keys;
    }
    if (is_loopback(own.listen)) return std::nullopt;
    if (!own.insecure) {
        throw InputError(
            fmt::format("--listen {}: whoever reaches it could take part, and read what is sent; make keys "
                        "(lategrad keys new DIR) and give --keys DIR, or say --insecure",
                        own.listen));
    }
    spdlog::warn("--insecure: whoever reaches {} can take part, and read and change what is sent", own.listen);
    return std::nullopt;
}

int serve(RunOptions options, ServeOptions own) {
    Signals signals;
    Job job = resolve(options);
    if (!options.resume.empty() && !own.keys.empty()) own.insecure = false; // it was, before it got keys
    if (own.min_workers == 0) own.min_workers = job.policy.has_quorum() ? job.policy.wait_for : 1;
    if (own.workers_max == 0) own.workers_max = 2 * job.options.workers;
    if (own.min_workers > own.workers_max || own.workers_max > kPlacesMax) {
        throw InputError(fmt::format("--workers-max {}: expected {} (--min-workers) to {}", own.workers_max,
                                     own.min_workers, kPlacesMax));
    }
    const Duration reassign_after = parse_duration(own.reassign_after, "--reassign-after");
    job.policy.workers_min = own.min_workers;
    const auto keys = keys_of(own);
    const Problem problem = certified(make_problem(job));
    warn_of_surprises(problem);
    const auto resume = checkpoint_to_resume(problem, own.toml());

    const SteadyClock clock;
    const auto transport =
        listen_zmq({.listen = own.listen,
                    .peers_max = own.workers_max + kSparePeers,
                    .keys = keys,
                    .link = {.payload_bytes_max = std::max(received_bytes_max(problem, true), kWordsBytesMax),
                             .payloads_max = own.workers_max * kHolders * job.policy.held_of_one_worker_max() +
                                             (own.workers_max + kSparePeers) * kPayloadsArriving,
                             .heartbeat = job.silence.heartbeat,
                             .dead_after = job.silence.dead_after}},
                   clock);
    const std::vector<std::byte> bytes = to_bytes(welcome_of(problem));
    BufferPool memory(bytes.size());
    Admission admission{
        .welcome = memory.lease(bytes.size()), .traits = traits_of(problem), .batches = problem.batches};
    std::memcpy(admission.welcome.data(), bytes.data(), bytes.size());

    Narrator narrator(!options.quiet);
    narrator.listening(transport->endpoint(), own.min_workers, keys.has_value());
    return run_recorded(problem,
                        {.transport = "ZeroMQ",
                         .progress = !options.quiet,
                         .own_config = own.toml(),
                         .resume = resume ? &*resume : nullptr},
                        signals, [&](RunHooks hooks) {
                            hooks.tell = [&, tell = hooks.tell](const RunEvent& event) {
                                tell(event);
                                narrator.tell(event);
                            };
                            Trained trained = serve(problem, *transport, clock, hooks,
                                                    {.heartbeats = true,
                                                     .admission = std::move(admission),
                                                     .run = random_name(),
                                                     .places = own.workers_max,
                                                     .spare_peers = kSparePeers,
                                                     .reassign_after = reassign_after});
                            trained.faults = transport->faults().by_name();
                            narrator.faults(trained.faults);
                            return trained;
                        });
}

} // namespace

void add_serve(CLI::App& program, Command& chosen) {
    auto options = std::make_shared<RunOptions>();
    auto own = std::make_shared<ServeOptions>();
    CLI::App* command =
        program.add_subcommand("serve", "Serve an elastic run: workers (lategrad work) come and go as they like");
    add_run_options(*command, *options);
    const auto add = [&](const char* name, auto& value, const char* help, const char* type) {
        return command->add_option(name, value, help)
            ->group("Who may come")
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
            ->type_name(type)
            ->capture_default_str();
    };
    add("--listen", own->listen, "where workers connect to; port 0: the system chooses one", "tcp://ADDRESS:PORT");
    add("--keys", own->keys, "folder made by lategrad keys new: workers need an admitted key, and all is encrypted",
        "DIR");
    command->add_flag("--insecure", own->insecure, "listen without keys on more than this machine")
        ->group("Who may come");
    take_whole_numbers(
        *add("--min-workers", own->min_workers,
             "the run begins with so many workers, and pauses with fewer; default --wait-for, or 1 with a "
             "policy that waits for no quorum",
             "N")
             ->default_str(""));
    take_whole_numbers(*add("--workers-max", own->workers_max,
                            "the most that take part at once; default twice --workers, which says into how many parts "
                            "the data is divided",
                            "N")
                            ->default_str(""));
    add("--reassign-after", own->reassign_after,
        "a part of the data whose worker is gone for so long is given to one that is here", "TIME");
    command->footer("Examples:\n"
                    "  lategrad serve --workers 8 --wait-for 6 --epochs 5\n"
                    "  lategrad serve --listen tcp://0.0.0.0:7000 --keys keys --workers 8 --min-workers 4\n"
                    "and on each machine:\n"
                    "  lategrad work --connect tcp://HOST:7000 --key worker.key\n");
    command->callback([options, own, &chosen] { chosen = [options, own] { return serve(*options, *own); }; });
}

} // namespace lategrad
