#include "cli/elastic/narrator.h"

#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include "cli/elastic/welcome.h"

namespace lategrad {
namespace {

/// As a worker on another machine would name it, where the server listens at all addresses of its own.
std::string from_elsewhere(const std::string& endpoint) {
    for (const std::string_view any : {"tcp://0.0.0.0:", "tcp://[::]:"}) {
        if (endpoint.starts_with(any)) return fmt::format("tcp://{}:{}", host_name(), endpoint.substr(any.size()));
    }
    return endpoint;
}

} // namespace

void Narrator::listening(const std::string& endpoint, std::size_t min_workers, bool with_keys) {
    if (!speaks_) return;
    spdlog::info("listening at {}{}; the run begins with {} worker{}: lategrad work --connect {}{}", endpoint,
                 with_keys ? "" : " (no keys, no encryption)", min_workers, min_workers == 1 ? "" : "s",
                 from_elsewhere(endpoint), with_keys ? " --key worker.key" : "");
}

void Narrator::tell(const RunEvent& event) {
    const auto say = [&](const std::string& what) {
        if (speaks_) spdlog::info("{:.1f} s: {}", seconds(event.at), what);
    };
    if (const auto* join = std::get_if<JoinEvent>(&event.body)) {
        say(fmt::format("worker {} joined{}{}; {} are here", join->worker.value(), join->from.empty() ? "" : " from ",
                        join->from, ++here_));
    } else if (const auto* resumed = std::get_if<ResumeEvent>(&event.body)) {
        say(fmt::format("goes on from version {}, as incarnation {}", resumed->version.value(),
                        resumed->incarnation.value()));
    } else if (const auto* leave = std::get_if<LeaveEvent>(&event.body)) {
        if (here_ == 0) return; // it has left with the server that was
        say(fmt::format("worker {} left; {} are here", leave->worker.value(), --here_));
    } else if (const auto* suspect = std::get_if<SuspectEvent>(&event.body)) {
        say(fmt::format("worker {} is {}; nobody waits for it", suspect->worker.value(),
                        suspect->overdue ? "overdue" : "silent"));
    } else if (const auto* returned = std::get_if<ReturnEvent>(&event.body)) {
        say(fmt::format("worker {} is heard again", returned->worker.value()));
    } else if (const auto* excluded = std::get_if<ExcludeEvent>(&event.body)) {
        spdlog::warn(
            "worker {} is excluded: too many of its gradients could not be used, the last one because it is {}",
            excluded->worker.value(), to_string(excluded->reason));
    } else if (const auto* pause = std::get_if<PauseEvent>(&event.body)) {
        say(fmt::format("paused: {} of the {} workers that it needs (--min-workers)", pause->active, pause->needed));
    } else if (std::holds_alternative<ContinueEvent>(event.body)) {
        say("goes on");
    } else if (const auto* part = std::get_if<PartEvent>(&event.body)) {
        say(fmt::format("part {} of the data is worker {}'s now", part->part, part->worker.value()));
    }
}

void Narrator::faults(const std::map<std::string, std::uint64_t>& faults) const {
    std::vector<std::string> dropped;
    for (const auto& [kind, count] : faults) dropped.push_back(fmt::format("{} {}", count, kind));
    if (speaks_ && !dropped.empty()) spdlog::warn("dropped, since it made no sense: {}", fmt::join(dropped, ", "));
}

} // namespace lategrad
