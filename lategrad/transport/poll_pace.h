/// How a loop that can only poll waits: it spins, then yields, then sleeps, the longer the longer nothing happened. So
/// what arrives late is noticed at most a sixteenth of the wait later, and an idle process uses no core.
#pragma once

#include <algorithm>
#include <cstddef>

#include "lategrad/core/time.h"

namespace lategrad {

/// Decides; the caller waits. Time is an argument.
class PollPace {
  public:
    enum class Wait { spin, yield, sleep };
    struct Pause {
        Wait wait = Wait::spin;
        Duration sleep{0};
    };

    static constexpr Duration kSpin = std::chrono::microseconds(50);
    static constexpr Duration kYield = std::chrono::microseconds(500);
    static constexpr Duration kSleepMin = std::chrono::microseconds(30);
    static constexpr Duration kSleepMax = std::chrono::milliseconds(1);

    /// `crowded`: more processes than cores, so that spinning takes the core from whom we wait for.
    PollPace(bool crowded, Time now) : crowded_(crowded), progress_(now), transfer_end_(now) {}

    /// Something arrived or left.
    void progressed(Time now) { progress_ = now; }

    /// `bytes` are on their way. Until they should be there nothing sleeps: many transports move bytes only while
    /// polled. Bounded, because a peer may have died half-way.
    void transferring(Time now, std::size_t bytes) {
        progress_ = now;
        const Duration expected = std::chrono::milliseconds(1) + Duration(bytes); // at 1 GB/s
        if (now + expected > transfer_end_) transfer_end_ = now + expected;
    }

    Pause pause(Time now) const {
        const Duration waited = now - progress_;
        if (waited < kSpin && !crowded_) return {Wait::spin};
        if (waited < (crowded_ ? kSpin : kYield) || now < transfer_end_) return {Wait::yield};
        return {Wait::sleep, std::clamp<Duration>(waited / 16, kSleepMin, kSleepMax)};
    }

  private:
    bool crowded_;
    Time progress_;
    Time transfer_end_;
};

} // namespace lategrad
