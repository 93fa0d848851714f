#include "tests/chaos/schedule.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"
#include "lategrad/core/random.h"

namespace lategrad::chaos {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::array<std::string_view, kKinds> kNames{"kill", "stop", "join", "corrupt", "cut", "server"};

struct Shape {
    Duration every;
    Duration lasts_min{0}, lasts_max{0};
};

Shape shape_of(Kind kind, const ScheduleOptions& options) {
    switch (kind) {
    case Kind::kill: return {options.kill_every};
    case Kind::stop: return {seconds(15), milliseconds(200), seconds(15)};
    case Kind::join: return {seconds(30), seconds(8), seconds(20)};
    case Kind::corrupt: return {seconds(4)};
    case Kind::cut: return {seconds(20), seconds(1), seconds(10)};
    case Kind::server: return {options.server_every};
    }
    return {seconds(10)};
}

} // namespace

std::string_view to_string(Kind kind) {
    return kNames[static_cast<std::size_t>(kind)];
}

std::set<Kind> parse_kinds(std::string_view text) {
    std::set<Kind> kinds;
    for (const std::string_view name : split(text, ',')) {
        const auto found = std::ranges::find(kNames, name);
        if (found == kNames.end()) {
            throw InputError(
                fmt::format("--kinds {}: \"{}\" is none of kill, stop, join, corrupt, cut, server", text, name));
        }
        kinds.insert(static_cast<Kind>(found - kNames.begin()));
    }
    return kinds;
}

std::string to_string(const Disturbance& disturbance, std::size_t workers) {
    std::string text = fmt::format("{:7.2f} s: {}", lategrad::seconds(disturbance.at), to_string(disturbance.kind));
    switch (disturbance.kind) {
    case Kind::kill:
    case Kind::stop:
    case Kind::cut: text += fmt::format(" worker {}", disturbance.pick % workers); break;
    case Kind::corrupt: text += fmt::format(" {}", disturbance.pick); break;
    case Kind::join:
    case Kind::server: break;
    }
    if (disturbance.lasts > Duration::zero())
        text += fmt::format(" for {:.2f} s", lategrad::seconds(disturbance.lasts));
    return text;
}

std::vector<Disturbance> make_schedule(const ScheduleOptions& options) {
    std::vector<Disturbance> schedule;
    for (const Kind kind : options.kinds) {
        const Shape shape = shape_of(kind, options);
        CHECK(shape.every > Duration::zero());
        const double every = lategrad::seconds(shape.every);
        const double last = lategrad::seconds(options.length - options.calm);
        for (std::uint64_t i = 0; static_cast<double>(i) * every < last; ++i) {
            RandomStream random(options.seed, Purpose::failures, {static_cast<std::uint64_t>(kind), i});
            const double at = (static_cast<double>(i) + random.uniform()) * every;
            Disturbance disturbance{.at = from_seconds(at), .kind = kind, .pick = random() >> 32};
            if (shape.lasts_max > Duration::zero()) {
                // As many short ones as long ones, by orders of magnitude.
                const double ratio = lategrad::seconds(shape.lasts_max) / lategrad::seconds(shape.lasts_min);
                disturbance.lasts =
                    from_seconds(lategrad::seconds(shape.lasts_min) * std::pow(ratio, random.uniform()));
            }
            if (at + lategrad::seconds(disturbance.lasts) <= last) schedule.push_back(disturbance);
        }
    }
    std::ranges::stable_sort(schedule, {}, &Disturbance::at);
    return schedule;
}

} // namespace lategrad::chaos
