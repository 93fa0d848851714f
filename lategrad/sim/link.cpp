#include "lategrad/sim/link.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/core/quantity.h"

namespace lategrad {
namespace {

/// A transfer whose last byte is this near has ended: far above the rounding of sums, far below a byte.
constexpr double kEnded = 1e-6;

/// Bytes per second. `whole`: the option's value, of which `text` is the rate.
double parse_rate(std::string_view text, std::string_view option, std::string_view whole) {
    constexpr double kLeast = 0.125; // a bit per second; below that virtual time would end before the run
    constexpr double kMost = 1.25e17;
    if (text == "unlimited") return kUnlimited;
    const auto rate = parse_quantity(text, {{"bit", 0.125}, {"kbit", 125}, {"Mbit", 125e3}, {"Gbit", 125e6}});
    if (!rate) {
        throw InputError(fmt::format(
            "{} {}: expected bits per second with a unit, as in 100Mbit or 1Gbit, or unlimited", option, whole));
    }
    if (*rate < kLeast) {
        throw InputError(fmt::format("{} {}: nothing would ever arrive; expected 1bit or more", option, whole));
    }
    if (*rate > kMost) {
        throw InputError(fmt::format("{} {}: expected 1e9Gbit at most, or unlimited", option, whole));
    }
    return *rate;
}

} // namespace

void LinkOptions::parse_link(std::string_view spec) {
    const std::size_t comma = spec.find(',');
    worker_rate = parse_rate(spec.substr(0, comma), "--link", spec);
    server_rate = worker_rate;
    if (comma != spec.npos) latency = parse_duration(spec.substr(comma + 1), "--link", false, spec);
}

void LinkOptions::parse_server_link(std::string_view spec) {
    server_rate = parse_rate(spec, "--server-link", spec);
}

SharedLink::SharedLink(double transfer_rate, double total_rate)
    : transfer_rate_(transfer_rate),
      total_rate_(total_rate) {
    CHECK(transfer_rate > 0 && total_rate > 0 && std::isfinite(std::min(transfer_rate, total_rate)));
}

double SharedLink::rate() const {
    return std::min(transfer_rate_, total_rate_ / static_cast<double>(std::max<std::size_t>(under_way_, 1)));
}

void SharedLink::advance(Time now) {
    CHECK(now >= now_);
    if (under_way_ > 0) {
        const double served = rate() * seconds(now - now_);
        served_ += served;
        bytes_moved_ += served * static_cast<double>(under_way_);
    } else {
        served_ = 0; // from time to time, so that its precision never suffers
    }
    now_ = now;
}

void SharedLink::start(Time now, std::uint32_t worker, double bytes) {
    advance(now);
    if (worker >= current_.size()) current_.resize(worker + std::size_t{1}, 0);
    CHECK(current_[worker] == 0);
    current_[worker] = next_id_;
    ends_.push({served_ + bytes, worker, next_id_++});
    ++under_way_;
}

void SharedLink::cut(Time now, std::uint32_t worker) {
    if (worker >= current_.size() || current_[worker] == 0) return;
    advance(now);
    current_[worker] = 0;
    --under_way_;
}

void SharedLink::drop_cut() const {
    while (!ends_.empty() && current_[ends_.top().worker] != ends_.top().id) ends_.pop();
}

std::optional<Time> SharedLink::next_end() const {
    drop_cut();
    if (ends_.empty()) return std::nullopt;
    const double left = std::max(ends_.top().ends_at - served_, 0.0) / rate();
    if (left > kSecondsMax) return kNever;
    return later(now_, Duration(static_cast<Duration::rep>(std::ceil(1e9 * left))));
}

std::optional<std::uint32_t> SharedLink::take_ended(Time now) {
    advance(now);
    drop_cut();
    if (ends_.empty() || ends_.top().ends_at > served_ + kEnded) return std::nullopt;
    const std::uint32_t worker = ends_.top().worker;
    ends_.pop();
    current_[worker] = 0;
    --under_way_;
    return worker;
}

} // namespace lategrad
