/// What is done to a run, and when: drawn from a seed alone, so that a run can be repeated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "lategrad/core/time.h"

namespace lategrad::chaos {

enum class Kind : std::uint8_t {
    kill,    ///< SIGKILL a worker; another process is started in its stead
    stop,    ///< SIGSTOP a worker, and SIGCONT after `lasts`
    join,    ///< one more worker comes, and is asked to leave by SIGTERM after `lasts`
    corrupt, ///< a hostile client says attack `pick`
    cut,     ///< the link of a worker goes down, and up after `lasts`
    server,  ///< SIGKILL the server, and resume it
};
inline constexpr std::size_t kKinds = 6;
std::string_view to_string(Kind kind);

/// `kill,stop`. Throws InputError naming --kinds.
std::set<Kind> parse_kinds(std::string_view text);

struct Disturbance {
    Duration at; ///< since the run began
    Kind kind;
    /// Of the slot of the worker meant, or of the attack: modulo how many there are.
    std::uint64_t pick = 0;
    Duration lasts{0};

    friend bool operator==(const Disturbance&, const Disturbance&) = default;
};

/// `12.3 s: stop worker 4 for 2.10 s`, where there are so many workers to pick from.
std::string to_string(const Disturbance& disturbance, std::size_t workers);

struct ScheduleOptions {
    Duration length{};
    Duration calm{}; ///< nothing happens any more, or still lasts, so long before the end
    std::uint64_t seed = 1;
    std::set<Kind> kinds;
    /// One of each kind falls into every interval of that kind's length.
    Duration kill_every = std::chrono::seconds(10);
    Duration server_every = std::chrono::seconds(30);
};

/// In the order of time. What one kind draws does not depend on which others there are.
std::vector<Disturbance> make_schedule(const ScheduleOptions& options);

} // namespace lategrad::chaos
