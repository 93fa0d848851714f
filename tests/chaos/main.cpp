/// Chaos: an elastic run of real processes is killed, stopped, cut off and lied to on a schedule drawn from a seed, and
/// held to what must be true all the while.
#include <netinet/in.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <fstream>
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/core/quantity.h"
#include "lategrad/files/safetensors.h"
#include "tests/chaos/arena.h"

namespace lategrad::chaos {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// At the end nothing happens any more, so that what came of it can be seen.
constexpr Duration kCalmMax = seconds(10);
/// Of accuracy: evaluations of a run scatter by that much.
constexpr double kScatter = 0.01;
constexpr std::uint64_t kEvalEvery = 100;

struct Options {
    std::string program;
    double minutes = 2;
    std::uint64_t seed = 1;
    std::string kinds = "kill,stop,join,corrupt,cut,server";
    std::size_t workers = 8;
    std::size_t wait_for = 6;
    std::string policy = "reuse";
    std::string model = "mlp:100";
    std::string kill_every = "10s";
    std::string server_every = "30s";
    std::string checkpoint_every = "5s";
    std::string calibrate = "20s";
    std::string stall_after = "15s";
    double within = 1.2;
    double slowness = 0;
    std::string out = "chaos-out";
    bool schedule_only = false;
    std::vector<std::string> serve;
};

std::string free_loopback_address() {
    const int number = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    const bool bound = number >= 0 && bind(number, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                       getsockname(number, reinterpret_cast<sockaddr*>(&address), &size) == 0;
    if (number >= 0) close(number);
    if (!bound) throw EnvironmentError("no port of 127.0.0.1 is free");
    return fmt::format("tcp://127.0.0.1:{}", ntohs(address.sin_port));
}

/// SIGINT, SIGTERM and SIGHUP: read by the arena, not delivered.
int signals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, number);
    CHECK(sigprocmask(SIG_BLOCK, &set, nullptr) == 0);
    const int descriptor = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    CHECK(descriptor >= 0);
    return descriptor;
}

bool has_quorum(const std::string& policy) {
    return policy != "sync" && policy != "async" && !policy.starts_with("ssp");
}

std::vector<std::string> serve_options(const Options& options, Duration at_most) {
    std::vector<std::string> serve{"--model",      options.model, "--data", "fashion-mnist", "--policy",
                                   options.policy, "--straggle",  "none",   "--lr",          "0.1"};
    const auto add = [&](const char* name, const std::string& value) { serve.insert(serve.end(), {name, value}); };
    add("--workers", std::to_string(options.workers));
    if (has_quorum(options.policy)) add("--wait-for", std::to_string(options.wait_for));
    add("--min-workers", std::to_string(options.wait_for));
    add("--seed", std::to_string(options.seed));
    add("--eval-every", std::to_string(kEvalEvery));
    add("--heartbeat", "250ms");
    add("--dead-after", "8s");
    add("--reassign-after", "10s");
    // It is asked to end long before.
    add("--time-limit", fmt::format("{:.0f}", lategrad::seconds(at_most)));
    serve.insert(serve.end(), options.serve.begin(), options.serve.end());
    return serve;
}

/// What a run without trouble comes to.
struct Undisturbed {
    double rate = 0;
    double accuracy = 0; ///< that the other run must reach
    double seconds = 0;  ///< when this one had
    std::uint64_t version = 0;
    std::uint64_t elements = 0;
};

std::optional<Version> version_that_reached(const Checker& checker, double accuracy) {
    for (const Point& point : checker.accuracies()) {
        if (point.accuracy >= accuracy) return point.version;
    }
    return std::nullopt;
}

Undisturbed undisturbed_of(const Arena& arena) {
    const Checker& checker = arena.checker();
    Undisturbed undisturbed;
    if (checker.seconds_with_quorum() > 0) {
        undisturbed.rate = static_cast<double>(checker.updates_with_quorum()) / checker.seconds_with_quorum();
    }
    std::vector<double> last;
    for (const Point& point : checker.accuracies()) last.push_back(point.accuracy);
    if (last.size() < 3) {
        throw EnvironmentError("the undisturbed run has made fewer than three evaluations: give --calibrate more time");
    }
    last.erase(last.begin(), last.end() - static_cast<std::ptrdiff_t>(std::max<std::size_t>(3, last.size() / 3)));
    std::ranges::sort(last);
    undisturbed.accuracy = last[last.size() / 2] - kScatter;
    undisturbed.seconds = checker.reached(undisturbed.accuracy).value_or(0);
    undisturbed.version = version_that_reached(checker, undisturbed.accuracy).value_or(Version{}).value();
    const SafetensorsFile weights(arena.run_folder() / "weights.safetensors");
    for (const auto& [name, tensor] : weights.tensors()) undisturbed.elements += tensor.elements();
    return undisturbed;
}

/// In time with a quorum, and in updates, which do not depend on what else the machine does.
void check_progress(const Options& options, const Undisturbed& undisturbed, const Checker& checker, Report& report) {
    const double grain = kEvalEvery / std::max(undisturbed.rate, 1e-9); // evaluations are that far apart
    const double limit = options.within * undisturbed.seconds + grain;
    report.seconds_to_target = checker.reached(undisturbed.accuracy);
    if (report.seconds_to_target.value_or(checker.seconds_with_quorum()) > limit) {
        report.violations.push_back(
            fmt::format("an accuracy of {:.2f} % was {} {:.1f} s; undisturbed it took {:.1f} s, so "
                        "that the limit was {:.1f} s",
                        100 * undisturbed.accuracy, report.seconds_to_target ? "reached after" : "not reached in",
                        report.seconds_to_target.value_or(checker.seconds_with_quorum()), undisturbed.seconds, limit));
    }
    const auto version = version_that_reached(checker, undisturbed.accuracy);
    const double updates_limit = options.within * static_cast<double>(undisturbed.version) + 2 * kEvalEvery;
    if (static_cast<double>(version.value_or(checker.version()).value()) > updates_limit) {
        report.violations.push_back(fmt::format("an accuracy of {:.2f} % was {} {} updates; undisturbed it took {}",
                                                100 * undisturbed.accuracy, version ? "reached with" : "not reached in",
                                                version.value_or(checker.version()).value(), undisturbed.version));
    }
}

int carry_out(const Options& options, const std::string& command) {
    Report report{.command = command, .seed = options.seed, .policy = options.policy, .minutes = options.minutes};
    std::set<Kind> kinds = parse_kinds(options.kinds);
    const Duration length = from_seconds(60 * options.minutes);
    const auto schedule_for = [&] {
        return make_schedule({.length = length,
                              .calm = std::min(kCalmMax, length / 4),
                              .seed = options.seed,
                              .kinds = kinds,
                              .kill_every = parse_duration(options.kill_every, "--kill-every"),
                              .server_every = parse_duration(options.server_every, "--server-every")});
    };
    if (options.schedule_only) {
        for (const Disturbance& one : schedule_for()) fmt::print("{}\n", to_string(one, options.workers));
        return 0;
    }
    const int descriptor = signals();

    const std::filesystem::path out = std::filesystem::absolute(options.out);
    if (std::filesystem::exists(out / "chaos.log")) std::filesystem::remove_all(out); // of a run of ours
    std::filesystem::create_directories(out);
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> log(std::fopen((out / "chaos.log").c_str(), "w"),
                                                              std::fclose);
    if (!log) throw InputError(fmt::format("--out {}: cannot be written", options.out));
    std::string words;
    if (run({options.program, "keys", "new", (out / "keys").string()}, &words) != 0) {
        throw InputError(fmt::format("--program {}: keys new: {}", options.program, words));
    }

    std::optional<Network> network;
    if (kinds.contains(Kind::cut)) {
        std::string why;
        network = Network::make(std::max<std::size_t>(1, options.workers / 2), why);
        if (!network) {
            kinds.erase(Kind::cut);
            report.skipped.push_back("cut: " + why);
            fmt::print("skipped: cut: {}\n", why);
        }
    }
    const std::string server = network ? fmt::format("tcp://{}:7000", network->address()) : free_loopback_address();

    const auto schedule = schedule_for();
    fmt::print("schedule, seed {}:\n", options.seed);
    for (const Disturbance& one : schedule) {
        std::string line = to_string(one, options.workers);
        if (one.kind == Kind::corrupt) line += fmt::format(": {}", attack_name(one.pick));
        fmt::print("{}\n", line);
        fmt::print(log.get(), "{}\n", line);
    }

    ArenaOptions arena{.program = options.program,
                       .folder = out / "undisturbed",
                       .keys = out / "keys",
                       .workers = options.workers,
                       .wait_for = options.wait_for,
                       .serve = serve_options(options, 2 * length + std::chrono::hours(1)),
                       .checkpoint_every = kinds.contains(Kind::server) ? options.checkpoint_every : "",
                       .server = server,
                       .network = network ? &*network : nullptr,
                       .seed = options.seed,
                       .slowness = options.slowness,
                       .stall_after = parse_duration(options.stall_after, "--stall-after"),
                       .log = log.get()};
    bool good = false;
    Undisturbed undisturbed;
    {
        fmt::print("undisturbed, for comparison:\n");
        Arena first(arena, descriptor);
        good = first.begin() && first.run({}, parse_duration(options.calibrate, "--calibrate"));
        first.end();
        Report alone;
        first.tell(alone);
        report.violations = alone.violations;
        for (std::string& violation : report.violations) violation = "undisturbed, " + violation;
        report.hangs = alone.hangs;
        if (good) undisturbed = undisturbed_of(first);
    }
    if (good) {
        fmt::print("undisturbed: {:.1f} updates/s; {:.2f} % after {:.1f} s and {} updates\n", undisturbed.rate,
                   100 * undisturbed.accuracy, undisturbed.seconds, undisturbed.version);
        arena.folder = out / "chaos";
        arena.elements = undisturbed.elements;
        const auto start = WallClock::now();
        Arena second(arena, descriptor);
        good = second.begin() && second.run(schedule, length);
        second.end();
        second.tell(report);
        report.seconds = std::chrono::duration<double>(WallClock::now() - start).count();
        report.undisturbed_rate = undisturbed.rate;
        report.accuracy_target = undisturbed.accuracy;
        report.undisturbed_seconds_to_target = undisturbed.seconds;
        check_progress(options, undisturbed, second.checker(), report);
    }
    if (double load = 0; getloadavg(&load, 1) == 1) report.load = load / std::max(1L, sysconf(_SC_NPROCESSORS_ONLN));

    const std::string text = to_text(report);
    fmt::print("\n{}", text);
    std::ofstream(out / "report.txt") << text;
    std::ofstream(out / "report.json") << to_json(report);
    return good && report.violations.empty() ? 0 : 1;
}

} // namespace
} // namespace lategrad::chaos

int main(int count, char** values) {
    using namespace lategrad;
    chaos::Options options;
    CLI::App app(
        "Kills, stops, cuts off and lies to an elastic run of real processes, and holds it to what must be true");
    app.add_option("--program", options.program, "lategrad")->required();
    const auto add = [&](const char* name, auto& value, const char* help) {
        app.add_option(name, value, help)->capture_default_str();
    };
    add("--minutes", options.minutes, "of chaos, after an undisturbed run for comparison");
    add("--seed", options.seed, "of the schedule");
    add("--kinds", options.kinds, "of disturbances: kill, stop, join, corrupt, cut, server");
    add("--workers", options.workers, "that a supervisor keeps alive");
    add("--wait-for", options.wait_for, "k; fewer workers pause the run");
    add("--policy", options.policy, "of the run");
    add("--model", options.model, "of the run");
    add("--kill-every", options.kill_every, "one worker in such a time");
    add("--server-every", options.server_every, "the server in such a time, where --kinds has it");
    add("--checkpoint-every", options.checkpoint_every, "where --kinds has server");
    add("--calibrate", options.calibrate, "how long the undisturbed run is");
    add("--stall-after", options.stall_after,
        "without an update, with enough workers, it hangs; stretched by the load");
    add("--within", options.within, "times the undisturbed time and updates, the accuracy must be reached");
    add("--slowness", options.slowness, "stretches the limits; 0: as the machine's load says");
    add("--out", options.out, "folder; one of an earlier run of this program is replaced");
    app.add_flag("--schedule", options.schedule_only, "print the schedule, and that is all");
    app.add_option("serve", options.serve, "behind --: more options of lategrad serve, such as --codec topk:0.01");
    CLI11_PARSE(app, count, values);
    std::string command;
    for (int i = 0; i < count; ++i) command += std::string(i > 0 ? " " : "") + values[i];
    try {
        if (options.workers == 0 || options.wait_for == 0 || options.wait_for > options.workers) {
            throw InputError("--wait-for: expected 1 to --workers");
        }
        return chaos::carry_out(options, command);
    } catch (const chaos::Interrupted&) {
        fmt::print(stderr, "chaos: interrupted\n");
        return 130;
    } catch (const InputError& error) {
        fmt::print(stderr, "chaos: {}\n", error.what());
        return 2;
    } catch (const std::exception& error) {
        fmt::print(stderr, "chaos: {}\n", error.what());
        return 1;
    }
}
