/// Time is an argument: nothing below `runtime` and `sim` reads a clock.
#pragma once

#include <algorithm>
#include <chrono>

namespace lategrad {

/// The clock of one run, real or virtual; its epoch is the start of the run.
struct RunClock {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<RunClock>;
    static constexpr bool is_steady = true;
};

using Duration = RunClock::duration;
using Time = RunClock::time_point;

inline constexpr Time kNever = Time::max();

/// The longest time that any option takes, so that sums of a few stay within Duration.
inline constexpr double kSecondsMax = 1e9;

/// `wait` after `from`; kNever where that is beyond what a Time holds. REQUIRES: wait >= 0.
inline Time later(Time from, Duration wait) {
    return wait < kNever - std::max(from, Time{}) ? from + wait : kNever;
}

inline double seconds(Duration d) {
    return std::chrono::duration<double>(d).count();
}

/// Seconds since the start of the run.
inline double seconds(Time t) {
    return seconds(t.time_since_epoch());
}

inline Duration from_seconds(double s) {
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(s));
}

} // namespace lategrad
