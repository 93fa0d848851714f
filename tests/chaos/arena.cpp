#include "tests/chaos/arena.h"

#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <utility>

#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"

namespace lategrad::chaos {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Limits on a machine that has nothing else to do; stretched where it has.
constexpr Duration kBeginWithin = seconds(60);
constexpr Duration kServerEndWithin = seconds(2);
constexpr Duration kWorkerEndWithin = seconds(5);
constexpr Duration kHereAtTheEnd = seconds(30);
constexpr Duration kGivenUp = seconds(30);               ///< beyond that, what hangs is killed
constexpr double kSlownessMost = 3;                      ///< by the load, part of which is the run's own
constexpr Duration kConnectionsEvery = milliseconds(50); ///< reading /proc takes time too

double since(Wall from, Wall to) {
    return std::chrono::duration<double>(to - from).count();
}

double wall_seconds(Wall wall) {
    return std::chrono::duration<double>(wall.time_since_epoch()).count();
}

std::string text_of(const std::filesystem::path& file) {
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    return text.str();
}

} // namespace

Arena::Arena(const ArenaOptions& options, int signals)
    : options_(options),
      signals_(signals),
      tail_(options.folder / "run" / "events.jsonl", options.wait_for) {
    std::filesystem::create_directories(options_.folder / "logs");
    inotify_ = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    const auto port =
        parse_number<std::uint16_t>(std::string_view(options_.server).substr(options_.server.rfind(':') + 1));
    CHECK(inotify_ >= 0 && port);
    port_ = *port;
    for (std::size_t i = 0; i < options_.workers; ++i) {
        Slot slot{.name = fmt::format("worker {}", i)};
        if (options_.network && i / 2 < options_.network->links() && i % 2 == 1) slot.link = i / 2;
        slots_.push_back(std::move(slot));
    }
}

Arena::~Arena() {
    hostile_stop_ = true;
    if (hostile_.joinable()) hostile_.join();
    close(inotify_);
}

void Arena::say(const std::string& what) {
    const std::string line = fmt::format("{:8.2f} s  {}\n", since(began_, WallClock::now()), what);
    std::fputs(line.c_str(), stdout);
    std::fflush(stdout);
    if (options_.log) std::fputs(line.c_str(), options_.log), std::fflush(options_.log);
}

void Arena::wrong(const std::string& what) {
    if (!told_.insert(what).second) return; // found in two ways
    wrong_.push_back(fmt::format("at {:.2f} s: {}", since(began_, WallClock::now()), what));
    say("WRONG: " + what);
}

double Arena::slowness() const {
    if (options_.slowness > 0) return options_.slowness;
    double load = 0;
    if (getloadavg(&load, 1) != 1) return 1;
    return std::clamp(load / std::max(1u, std::thread::hardware_concurrency()), 1.0, kSlownessMost);
}

Duration Arena::stretched(Duration limit) const {
    return from_seconds(lategrad::seconds(limit) * slowness());
}

void Arena::later(Duration wait, std::function<void()> action, bool undoes) {
    later_.push_back({WallClock::now() + wait, std::move(action), undoes});
}

std::string Arena::last_words(const std::filesystem::path& log) const {
    const std::string text = text_of(log);
    constexpr std::size_t most = 1000;
    return fmt::format("{}: {}", log.string(),
                       text.empty() ? "(empty)" : text.substr(text.size() - std::min(text.size(), most)));
}

void Arena::start_server(bool resumes) {
    StartOptions start{.command = {options_.program, "serve"}};
    if (resumes) {
        start.command.insert(start.command.end(), {"--resume", run_folder().string()});
    } else {
        start.command.insert(start.command.end(), {"--out", run_folder().string()});
        start.command.insert(start.command.end(), options_.serve.begin(), options_.serve.end());
        if (!options_.checkpoint_every.empty()) {
            start.command.insert(start.command.end(), {"--checkpoint-every", options_.checkpoint_every});
        }
    }
    start.command.insert(start.command.end(), {"--listen", options_.server, "--keys", options_.keys.string()});
    start.log = server_log_ = options_.folder / "logs" / fmt::format("server-{}.log", server_starts_);
    if (options_.network) start.network = options_.network->middle();
    std::string line;
    for (const std::string& word : start.command) line += word + " ";
    server_ = processes_.start(start);
    server_started_ = WallClock::now();
    ++server_starts_;
    say(fmt::format("server started, process {}: {}", server_, line));
}

void Arena::start_worker(Slot& slot) {
    StartOptions start{.command = {options_.program, "work", "--connect", options_.server, "--key",
                                   (options_.keys / "worker.key").string(), "--heartbeat", "250ms", "--dead-after",
                                   "8s", "--reconnect-for", "10m"}};
    std::string name = slot.name;
    std::ranges::replace(name, ' ', '-');
    start.log = slot.log = options_.folder / "logs" / fmt::format("{}-{}.log", name, slot.processes++);
    if (options_.network) start.network = slot.link ? options_.network->end(*slot.link) : options_.network->middle();
    slot.pid = processes_.start(start);
    slot.started = WallClock::now();
    slot.connected.reset();
    slot.joined = slot.was_joined = slot.stopped = slot.killed = false;
    slot.id.reset();
    slot.asked_to_leave.reset();
    slot.memory_warm = 0;
}

bool Arena::begin() {
    began_ = WallClock::now();
    start_server(false);
    for (Slot& slot : slots_) start_worker(slot);
    const Wall until = WallClock::now() + stretched(kBeginWithin);
    const auto all_here = [&] { return std::ranges::all_of(slots_, &Slot::joined); };
    while (!broken_ && !all_here() && WallClock::now() < until) pump(WallClock::now() + milliseconds(100));
    if (broken_) return false;
    if (!all_here()) {
        for (const Slot& slot : slots_) {
            if (!slot.joined) wrong(slot.name + " did not join in the beginning; " + last_words(slot.log));
        }
        return false;
    }
    say(fmt::format("all {} workers are here", slots_.size()));
    return true;
}

bool Arena::run(const std::vector<Disturbance>& schedule, Duration length) {
    const Wall start = WallClock::now();
    for (const Disturbance& disturbance : schedule) {
        pump(start + disturbance.at);
        if (broken_) return false;
        disturb(disturbance);
    }
    pump(start + length);
    return !broken_;
}

/// Looks at all that happens, and carries out what is due, until then.
void Arena::pump(Wall until) {
    do {
        const Wall now = WallClock::now();
        Wall next = std::min(until, now + milliseconds(200));
        for (const Later& one : later_) next = std::min(next, one.at);
        for (const Slot& slot : slots_) {
            if (slot.pid != 0 && !slot.joined && !slot.connected) next = std::min(next, now + kConnectionsEvery);
        }
        std::vector<pollfd> ready{{signals_, POLLIN, 0}, {inotify_, POLLIN, 0}};
        for (const pid_t pid : processes_.running()) ready.push_back({processes_.pidfd(pid), POLLIN, 0});
        const auto wait = std::chrono::ceil<milliseconds>(next - now).count();
        poll(ready.data(), ready.size(), static_cast<int>(std::max<std::int64_t>(0, wait)));
        if (ready[0].revents != 0) throw Interrupted{};
        look();
        for (auto one = later_.begin(); one != later_.end();) {
            if (one->at > WallClock::now()) {
                ++one;
                continue;
            }
            const auto action = std::move(one->action);
            one = later_.erase(one);
            action();
        }
    } while (!broken_ && WallClock::now() < until);
}

void Arena::look() {
    char ignored[4096];
    while (read(inotify_, ignored, sizeof ignored) > 0) {
    }
    // It is made once the server has its data; watching it twice is watching it once.
    if (inotify_add_watch(inotify_, (run_folder() / "events.jsonl").c_str(), IN_MODIFY) < 0 && errno != ENOENT) {
        throw EnvironmentError("inotify_add_watch failed");
    }
    const bool looks = WallClock::now() >= connections_looked_ + kConnectionsEvery;
    if (looks) connections_looked_ = WallClock::now();
    for (Slot& slot : slots_) {
        if (!looks || slot.pid == 0 || slot.joined || slot.stopped) continue;
        if (!slot.connected && connected_to(slot.pid, port_)) slot.connected = WallClock::now();
    }
    std::optional<Time> last;
    const bool was_resuming = tail_.resuming();
    const std::size_t violations = checker().violations().size() + tail_.violations().size();
    tail_.read([&](const Line& line) {
        if (const auto* event = std::get_if<RunEvent>(&line)) last = event->at;
        on_line(line);
    });
    const Wall now = WallClock::now();
    if (was_resuming && !tail_.resuming()) say("the run is resumed");
    if (last && *last > Time{}) {
        const double offset = wall_seconds(now) - lategrad::seconds(*last);
        const auto [known, first] = offsets_.emplace(server_starts_, offset);
        if (!first) known->second = std::min(known->second, offset);
    }
    if (checker().violations().size() + tail_.violations().size() > violations) {
        say("WRONG: see the violations of events.jsonl in the report");
    }
    for (const Exit& exit : processes_.reap()) on_exit(exit);
    if (hostile_done_ && hostile_.joinable()) finish_attack();
    check_stall();
    check_memory();
    check_kills();
}

void Arena::on_line(const Line& line) {
    const auto* resume = std::get_if<ResumeLine>(&line);
    if (resume && resume->version && newest_whole_ && *resume->version < *newest_whole_) {
        wrong(fmt::format("resumed from version {}, but there was a whole checkpoint of version {}",
                          resume->version->value(), newest_whole_->value()));
    }
    const auto* event = std::get_if<RunEvent>(&line);
    if (!event) return;
    if (const auto* join = std::get_if<JoinEvent>(&event->body)) {
        on_join(*join, event->at);
    } else if (const auto* leave = std::get_if<LeaveEvent>(&event->body)) {
        on_leave(leave->worker, event->at, true);
    } else if (const auto* suspect = std::get_if<SuspectEvent>(&event->body)) {
        on_leave(suspect->worker, event->at, false);
    } else if (std::holds_alternative<UpdateEvent>(event->body)) {
        updated_ = WallClock::now();
        if (!server_proven_) {
            server_proven_ = true;
            ++servers_survived_;
        }
    }
}

/// Hostile clients that take part are nobody's, and neither is who has been killed by now.
void Arena::on_join(const JoinEvent& join, Time at) {
    const auto pid = parse_number<pid_t>(std::string_view(join.from).substr(join.from.rfind(':') + 1));
    const auto found = std::ranges::find_if(
        slots_, [&](const Slot& slot) { return slot.pid != 0 && !slot.killed && slot.pid == pid; });
    if (found == slots_.end()) return;
    found->id = join.worker;
    found->joined = true;
    if (std::exchange(found->was_joined, true)) return;
    found->joined_at = WallClock::now();
    if (found->processes < 2 || found->extra) return; // it comes, and does not come back
    rejoined_.push_back({server_starts_, lategrad::seconds(at), found->started});
    if (found->connected) rejoined_from_connect_.push_back({server_starts_, lategrad::seconds(at), *found->connected});
}

void Arena::on_leave(WorkerId worker, Time at, bool gone) {
    const auto kill = std::ranges::find(kills_, worker, &Kill::id);
    if (kill != kills_.end()) {
        detected_.push_back({server_starts_, lategrad::seconds(at), kill->at});
        kills_.erase(kill);
        return;
    }
    const auto slot = std::ranges::find_if(slots_, [&](const Slot& one) { return one.joined && one.id == worker; });
    if (slot == slots_.end() || !gone) return;
    slot->joined = false;
    slot->id.reset();
}

/// The first at or after that number that may be taken.
Arena::Slot* Arena::pick(std::uint64_t number, const std::function<bool(const Slot&)>& may) {
    auto slot = std::next(slots_.begin(), static_cast<std::ptrdiff_t>(number % options_.workers));
    for (std::size_t i = 0; i < options_.workers; ++i) {
        if (slot->pid != 0 && !slot->killed && may(*slot)) return &*slot;
        if (static_cast<std::size_t>(std::distance(slots_.begin(), ++slot)) >= options_.workers) slot = slots_.begin();
    }
    return nullptr;
}

void Arena::disturb(const Disturbance& disturbance) {
    ++disturbances_[std::string(to_string(disturbance.kind))];
    switch (disturbance.kind) {
    case Kind::kill: kill_worker(disturbance); break;
    case Kind::stop: stop_worker(disturbance); break;
    case Kind::join: add_worker(disturbance); break;
    case Kind::corrupt: start_attack(disturbance); break;
    case Kind::cut: cut_worker(disturbance); break;
    case Kind::server: kill_server(); break;
    }
}

void Arena::kill_worker(const Disturbance& disturbance) {
    Slot* slot = pick(disturbance.pick, [](const Slot& one) { return one.joined; });
    if (!slot) slot = pick(disturbance.pick, [](const Slot&) { return true; });
    if (!slot) return say("kill: nobody is left");
    say(fmt::format("kill {}, process {}{}", slot->name, slot->pid,
                    slot->id ? fmt::format(", worker {} of the run", slot->id->value()) : ""));
    slot->killed = true;
    const Wall now = WallClock::now();
    processes_.signal(slot->pid, SIGKILL);
    // A suspect one is out already, and a cut off one is seen when its link is up.
    if (!slot->joined) ++kills_before_join_;
    else if (!slot->stopped && !slot->cut) kills_.push_back({slot->name, *slot->id, now, server_starts_});
}

void Arena::stop_worker(const Disturbance& disturbance) {
    Slot* slot = pick(disturbance.pick, [](const Slot& one) { return !one.stopped; });
    if (!slot) return say("stop: nobody is left");
    say(fmt::format("stop {} for {:.2f} s", slot->name, lategrad::seconds(disturbance.lasts)));
    slot->stopped = true;
    const pid_t pid = slot->pid;
    processes_.signal(pid, SIGSTOP);
    later(
        disturbance.lasts,
        [this, slot, pid] {
            if (slot->pid != pid) return; // killed meanwhile
            processes_.signal(pid, SIGCONT);
            slot->stopped = false;
            say("continue " + slot->name);
        },
        true);
}

void Arena::cut_worker(const Disturbance& disturbance) {
    if (!options_.network) return;
    Slot* slot = pick(disturbance.pick, [](const Slot& one) { return one.link && !one.cut; });
    if (!slot) return say("cut: nobody is left");
    say(fmt::format("cut {} for {:.2f} s", slot->name, lategrad::seconds(disturbance.lasts)));
    slot->cut = true;
    options_.network->set_link(*slot->link, false);
    later(
        disturbance.lasts,
        [this, slot] {
            options_.network->set_link(*slot->link, true);
            slot->cut = false;
            say("restore " + slot->name);
        },
        true);
}

void Arena::add_worker(const Disturbance& disturbance) {
    Slot& slot = slots_.emplace_back();
    slot.name = fmt::format("extra {}", extras_++);
    slot.extra = true;
    say("join " + slot.name);
    start_worker(slot);
    later(
        disturbance.lasts,
        [this, &slot] {
            if (slot.pid == 0) return;
            say("ask " + slot.name + " to leave");
            slot.asked_to_leave = WallClock::now();
            processes_.signal(slot.pid, SIGTERM);
        },
        true);
}

void Arena::start_attack(const Disturbance& disturbance) {
    if (hostile_.joinable()) return say("corrupt: the attack before goes on");
    hostile_done_ = hostile_stop_ = false;
    Target target{.server = options_.server,
                  .network = options_.network ? options_.network->middle() : "",
                  .keys = read_worker_key(options_.keys / "worker.key"),
                  .elements = options_.elements};
    say("corrupt: " + attack_name(disturbance.pick));
    hostile_ = std::thread([this, pick = disturbance.pick, target = std::move(target)] {
        attacked_ = attack(pick, options_.seed + pick, target, hostile_stop_);
        hostile_done_ = true;
    });
}

void Arena::finish_attack() {
    hostile_.join();
    ++attacks_[attacked_.what];
    say(fmt::format("corrupt: {}: {}", attacked_.what, attacked_.came_of_it));
    if (!attacked_.wrong.empty()) wrong(attacked_.what + ": " + attacked_.wrong);
}

void Arena::kill_server() {
    if (tail_.resuming() || !server_proven_) return say("server: it is on its way back");
    say(fmt::format("kill the server, process {}", server_));
    ++servers_killed_;
    // What it did until now counts only as far as its last checkpoint; the tail reads no more before the resume line.
    tail_.expect_resume();
    processes_.signal(server_, SIGKILL);
    processes_.wait(server_, WallClock::now() + kGivenUp);
    look_at_checkpoints();
    kills_.clear();
    for (Slot& slot : slots_) {
        slot.joined = false;
        slot.id.reset();
    }
    server_proven_ = false;
    start_server(true);
    later(stretched(kBeginWithin), [this, start = server_starts_] {
        if (server_starts_ != start || server_proven_ || broken_) return;
        ++hangs_;
        wrong("the resumed server has made no update; " + last_words(server_log_));
        broken_ = true;
    });
}

void Arena::on_exit(const Exit& exit) {
    if (exit.pid == server_) {
        server_ = 0;
        if (!ending_) {
            wrong(fmt::format("the server ended by itself, status {}; {}", exit.status, last_words(server_log_)));
            broken_ = true;
        }
        return;
    }
    const auto slot = std::ranges::find(slots_, exit.pid, &Slot::pid);
    if (slot == slots_.end()) return;
    slot->pid = 0;
    slot->joined = false;
    if (slot->asked_to_leave) {
        const double took = since(*slot->asked_to_leave, exit.at);
        // While it is being loaded, the signal itself ends it.
        if (exit.status > 1 && exit.status != 128 + SIGTERM) {
            wrong(fmt::format("{} was asked to leave and ended with status {}; {}", slot->name, exit.status,
                              last_words(slot->log)));
        }
        if (took > lategrad::seconds(stretched(kWorkerEndWithin))) {
            wrong(fmt::format("{} took {:.2f} s to leave", slot->name, took));
        }
    } else if (!slot->killed && !ending_) {
        wrong(fmt::format("{} ended by itself, status {}; {}", slot->name, exit.status, last_words(slot->log)));
    } else if (ending_ && exit.status != 0 && !slot->killed) {
        wrong(fmt::format("{} ended with status {} after the run; {}", slot->name, exit.status, last_words(slot->log)));
    }
    if (!slot->extra && !ending_) start_worker(*slot);
}

void Arena::end() {
    for (Later& one : later_) {
        if (one.undoes) one.at = WallClock::now();
    }
    const Wall until = WallClock::now() + stretched(kHereAtTheEnd);
    const auto all_here = [&] {
        return server_proven_ && std::ranges::none_of(later_, &Later::undoes) &&
               std::ranges::all_of(slots_, [](const Slot& slot) { return slot.extra || slot.joined; });
    };
    while (!broken_ && !all_here() && WallClock::now() < until) pump(WallClock::now() + milliseconds(100));
    if (!broken_ && !all_here()) {
        if (!server_proven_) wrong("the resumed server has made no update at the end; " + last_words(server_log_));
        for (const Slot& slot : slots_) {
            if (!slot.extra && !slot.joined) wrong(slot.name + " did not come back; " + last_words(slot.log));
        }
    }
    hostile_stop_ = true;
    if (hostile_.joinable()) finish_attack();
    later_.clear();
    ending_ = true;
    end_server();
    end_workers();
    for (const pid_t pid : children()) wrong(fmt::format("process {} is left", pid));
    tail_.read([](const Line&) {});
    if (tail_.resuming()) wrong("events.jsonl has no line of the last resume");
    if (!tail_.unfinished().empty()) wrong("events.jsonl ends within a line: " + tail_.unfinished().substr(0, 80));
    for (const auto* violations : {&tail_.violations(), &checker().violations()}) {
        for (const Violation& violation : *violations) {
            wrong(fmt::format("{}:{}: {}", (run_folder() / "events.jsonl").string(), violation.line, violation.what));
        }
    }
    look_at_checkpoints();
    if (broken_) return; // what such a run leaves says nothing more
    const std::size_t known = checker().violations().size();
    std::string bad;
    const auto summary = read_summary(run_folder(), bad);
    if (summary) tail_.checker().finish(*summary);
    else wrong(bad);
    if (summary && summary->outcome != Outcome::interrupted) {
        wrong(fmt::format("summary.json has outcome {}", to_string(summary->outcome)));
    }
    for (const std::string& what : check_folder(run_folder(), options_.wait_for, servers_killed_ > 0)) wrong(what);
    for (std::size_t i = known; i < checker().violations().size(); ++i) wrong(checker().violations()[i].what);
}

void Arena::end_server() {
    if (server_ == 0) return;
    const Wall asked = WallClock::now();
    const Duration limit = stretched(kServerEndWithin);
    say(fmt::format("ask the server to end, within {:.1f} s", lategrad::seconds(limit)));
    processes_.signal(server_, SIGTERM);
    const auto exit = processes_.wait(server_, asked + std::max(kGivenUp, 2 * limit));
    if (!exit) {
        ++hangs_;
        broken_ = true;
        wrong("the server does not end; " + last_words(server_log_));
        processes_.signal(server_, SIGKILL);
        processes_.wait(server_, WallClock::now() + kGivenUp);
        server_ = 0;
        return;
    }
    server_ = 0;
    server_end_seconds_ = since(asked, exit->at);
    say(fmt::format("the server ended in {:.2f} s, status {}", server_end_seconds_, exit->status));
    if (server_end_seconds_ > lategrad::seconds(limit)) {
        wrong(
            fmt::format("the server took {:.2f} s to end, of {:.2f} s", server_end_seconds_, lategrad::seconds(limit)));
    }
    if (exit->signalled || exit->status > 1) {
        wrong(fmt::format("the server ended with status {}; {}", exit->status, last_words(server_log_)));
    }
}

void Arena::end_workers() {
    const Wall until = WallClock::now() + stretched(kWorkerEndWithin);
    for (Slot& slot : slots_) {
        if (slot.pid == 0) continue;
        if (!slot.joined) { // it need not know that the run is over
            slot.asked_to_leave = WallClock::now();
            processes_.signal(slot.pid, SIGTERM);
        }
        const Wall limit =
            std::max(until, slot.asked_to_leave ? WallClock::now() + stretched(kWorkerEndWithin) : until);
        if (const auto exit = processes_.wait(slot.pid, limit)) {
            on_exit(*exit);
            continue;
        }
        ++hangs_;
        wrong(slot.name + " does not end with the run; " + last_words(slot.log));
        slot.killed = true;
        processes_.signal(slot.pid, SIGKILL);
        processes_.wait(slot.pid, WallClock::now() + kGivenUp);
        slot.pid = 0;
    }
}

void Arena::tell(Report& report) const {
    const auto times = [&](const std::vector<Seen>& all, Times& out) {
        for (const Seen& seen : all) {
            const auto offset = offsets_.find(seen.server);
            if (offset == offsets_.end()) continue;
            out.add(std::max(0.0, offset->second + seen.seconds - wall_seconds(seen.from)));
        }
    };
    times(detected_, report.detect);
    times(rejoined_, report.rejoin);
    times(rejoined_from_connect_, report.rejoin_from_connect);
    report.kills_before_join = kills_before_join_;
    report.unseen_kills = unseen_kills_;
    report.disturbances = disturbances_;
    report.attacks = attacks_;
    report.servers_killed = servers_killed_;
    report.servers_survived = servers_survived_;
    report.server_end_seconds = server_end_seconds_;
    report.memory_warm = memory_warm_;
    report.memory_most = memory_most_;
    report.hangs += hangs_;
    const Totals totals = checker().totals();
    report.pushed = totals.pushed;
    report.applied = totals.applied;
    report.dropped = totals.dropped;
    report.held = totals.held;
    report.lost = totals.lost;
    report.unaccounted = totals.open;
    report.updates = totals.updates;
    report.updates_with_quorum = checker().updates_with_quorum();
    report.seconds_with_quorum = checker().seconds_with_quorum();
    if (!checker().accuracies().empty()) report.accuracy = checker().accuracies().back().accuracy;
    report.violations.insert(report.violations.end(), wrong_.begin(), wrong_.end());
}

} // namespace lategrad::chaos
