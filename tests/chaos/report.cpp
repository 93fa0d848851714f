#include "tests/chaos/report.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "lategrad/telemetry/table.h"

namespace lategrad::chaos {
namespace {

constexpr double kRateGoal = 0.95;
constexpr double kRejoinGoal = 2;
constexpr double kMebi = 1024.0 * 1024.0;

std::string shown(std::optional<double> value) {
    return value ? fmt::format("{:.3f} s", *value) : "-";
}

std::string met(bool good) {
    return good ? "met" : "missed";
}

nlohmann::ordered_json json_of(std::optional<double> value) {
    return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json();
}

nlohmann::ordered_json json_of(const Times& times) {
    return {{"count", times.seconds.size()}, {"median", json_of(median(times))}, {"max", json_of(longest(times))}};
}

} // namespace

std::optional<double> median(const Times& times) {
    if (times.seconds.empty()) return std::nullopt;
    auto sorted = times.seconds;
    const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
    std::nth_element(sorted.begin(), middle, sorted.end());
    return *middle;
}

std::optional<double> longest(const Times& times) {
    if (times.seconds.empty()) return std::nullopt;
    return *std::ranges::max_element(times.seconds);
}

double Report::rate_share() const {
    if (undisturbed_rate <= 0 || seconds_with_quorum <= 0) return 0;
    return static_cast<double>(updates_with_quorum) / seconds_with_quorum / undisturbed_rate;
}

std::string to_text(const Report& report) {
    Table table({{"", Align::left}, {"", Align::left}, {"goal", Align::left}});
    const auto row = [&](const std::string& name, const std::string& value, const std::string& goal = "") {
        table.add_row({name, value, goal});
    };
    for (const auto& [kind, count] : report.disturbances) row(kind, fmt::format("{}", count));
    for (const auto& [name, count] : report.attacks) row("  " + name, fmt::format("{}", count));
    for (const std::string& what : report.skipped) row("skipped", what);
    const double rate = report.seconds_with_quorum > 0
                            ? static_cast<double>(report.updates_with_quorum) / report.seconds_with_quorum
                            : 0;
    row("updates", fmt::format("{} in {:.1f} s", report.updates, report.seconds));
    row("rate with a quorum",
        fmt::format("{:.1f}/s in {:.1f} s, {:.0f} % of {:.1f}/s undisturbed", rate, report.seconds_with_quorum,
                    100 * report.rate_share(), report.undisturbed_rate),
        fmt::format("95 %: {}", met(report.rate_share() >= kRateGoal)));
    row("accuracy at the end", report.accuracy ? fmt::format("{:.2f} %", 100 * *report.accuracy) : "-");
    row(fmt::format("time to {:.2f} %", 100 * report.accuracy_target),
        fmt::format("{}, undisturbed {:.1f} s", shown(report.seconds_to_target), report.undisturbed_seconds_to_target));
    row("time to detect a kill",
        fmt::format("median {}, max {}, of {}; {} killed before they joined", shown(median(report.detect)),
                    shown(longest(report.detect)), report.detect.seconds.size(), report.kills_before_join));
    row("time to rejoin, from the start", fmt::format("median {}, max {}, of {}", shown(median(report.rejoin)),
                                                      shown(longest(report.rejoin)), report.rejoin.seconds.size()));
    row("                 connecting",
        fmt::format("median {}, max {}, of {}", shown(median(report.rejoin_from_connect)),
                    shown(longest(report.rejoin_from_connect)), report.rejoin_from_connect.seconds.size()),
        fmt::format("median 2 s: {}", met(median(report.rejoin_from_connect).value_or(0) < kRejoinGoal)));
    row("server restarts survived", fmt::format("{} of {}", report.servers_survived, report.servers_killed));
    row("server's end on SIGTERM", fmt::format("{:.2f} s", report.server_end_seconds));
    row("server's memory",
        fmt::format("{:.0f} MiB after the warm-up, {:.0f} MiB at most", static_cast<double>(report.memory_warm) / kMebi,
                    static_cast<double>(report.memory_most) / kMebi));
    row("gradients", fmt::format("{}: {} applied, {} dropped, {} held, {} lost", report.pushed, report.applied,
                                 report.dropped, report.held, report.lost));
    row("losses unaccounted for", fmt::format("{}", report.unaccounted), "0");
    row("hangs", fmt::format("{}", report.hangs), "0");
    row("load", fmt::format("{:.1f} per core", report.load));
    row("violations", fmt::format("{}", report.violations.size()), "0");
    std::string text = table.text();
    for (const std::string& violation : report.violations) text += "WRONG: " + violation + "\n";
    return text;
}

std::string to_json(const Report& report) {
    nlohmann::ordered_json json;
    json["command"] = report.command;
    json["seed"] = report.seed;
    json["policy"] = report.policy;
    json["minutes"] = report.minutes;
    json["disturbances"] = report.disturbances;
    json["attacks"] = report.attacks;
    json["skipped"] = report.skipped;
    json["load_per_core"] = report.load;
    json["undisturbed_rate"] = report.undisturbed_rate;
    json["updates"] = report.updates;
    json["seconds"] = report.seconds;
    json["updates_with_quorum"] = report.updates_with_quorum;
    json["seconds_with_quorum"] = report.seconds_with_quorum;
    json["rate_share"] = report.rate_share();
    json["accuracy_target"] = report.accuracy_target;
    json["accuracy"] = json_of(report.accuracy);
    json["undisturbed_seconds_to_target"] = report.undisturbed_seconds_to_target;
    json["seconds_to_target"] = json_of(report.seconds_to_target);
    json["detect"] = json_of(report.detect);
    json["rejoin"] = json_of(report.rejoin);
    json["rejoin_from_connect"] = json_of(report.rejoin_from_connect);
    json["kills_before_join"] = report.kills_before_join;
    json["unseen_kills"] = report.unseen_kills;
    json["unseen_joins"] = report.unseen_joins;
    json["servers_killed"] = report.servers_killed;
    json["servers_survived"] = report.servers_survived;
    json["server_end_seconds"] = report.server_end_seconds;
    json["memory_warm"] = report.memory_warm;
    json["memory_most"] = report.memory_most;
    json["pushed"] = report.pushed;
    json["applied"] = report.applied;
    json["dropped"] = report.dropped;
    json["held"] = report.held;
    json["lost"] = report.lost;
    json["unaccounted"] = report.unaccounted;
    json["hangs"] = report.hangs;
    json["violations"] = report.violations;
    return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

} // namespace lategrad::chaos
