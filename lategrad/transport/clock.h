/// Where a run's time comes from. Only transports and the runtime read it; everything below gets time as an argument.
#pragma once

#include <chrono>

#include "lategrad/core/time.h"

namespace lategrad {

/// Any thread.
class Clock {
  public:
    virtual ~Clock() = default;
    /// Time since the start of the run; never goes back.
    virtual Time now() const = 0;
};

/// Real time since construction.
class SteadyClock final : public Clock {
  public:
    Time now() const override { return Time{std::chrono::steady_clock::now() - start_}; }

  private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

} // namespace lategrad
