/// What a run under chaos came to: text for people, JSON for programs.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace lategrad::chaos {

struct Times {
    std::vector<double> seconds;
    void add(double value) { seconds.push_back(value); }
};
/// Of an ordered half; nothing where there are none.
std::optional<double> median(const Times& times);
std::optional<double> longest(const Times& times);

struct Report {
    std::string command;
    std::uint64_t seed = 0;
    std::string policy;
    double minutes = 0;
    std::map<std::string, std::uint64_t> disturbances; ///< by kind
    std::map<std::string, std::uint64_t> attacks;      ///< by name
    std::vector<std::string> skipped;
    double load = 0; ///< average of the machine's over a minute, per core, at the end

    double undisturbed_rate = 0; ///< updates a second
    std::uint64_t updates = 0;
    double seconds = 0;
    std::uint64_t updates_with_quorum = 0;
    double seconds_with_quorum = 0;

    double accuracy_target = 0;
    std::optional<double> accuracy;
    double undisturbed_seconds_to_target = 0;
    std::optional<double> seconds_to_target; ///< with a quorum

    Times detect;              ///< from a kill to the server's leave or suspect
    Times rejoin;              ///< from starting a process to its join
    Times rejoin_from_connect; ///< from when its connection stood
    std::uint64_t unseen_kills = 0, unseen_joins = 0;
    std::uint64_t kills_before_join = 0; ///< of processes that had not joined yet
    std::uint64_t servers_survived = 0, servers_killed = 0;
    double server_end_seconds = 0;
    std::uint64_t memory_warm = 0, memory_most = 0;

    std::uint64_t pushed = 0, applied = 0, dropped = 0, held = 0, lost = 0, unaccounted = 0;
    std::uint64_t hangs = 0;
    std::vector<std::string> violations;

    double rate_share() const;
};

std::string to_text(const Report& report);
std::string to_json(const Report& report);

} // namespace lategrad::chaos
