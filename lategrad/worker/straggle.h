/// Injected stragglers: how much longer than its computation a gradient takes. A sleep in real runs, virtual time in
/// the simulator, from the same seeded stream.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "lategrad/core/ids.h"
#include "lategrad/core/time.h"

namespace lategrad {

/// `none`, `exp:MEAN`, `shifted-exp:SHIFT,MEAN`, `pareto:SHAPE,SCALE`, `trace:FILE.csv` add to the compute time;
/// `slow:COUNT,FACTOR` (the last COUNT workers, always) and `bimodal:PROBABILITY,FACTOR` multiply it.
class StraggleModel {
  public:
    /// Throws InputError naming `--straggle`, and the file and line of a trace.
    static StraggleModel parse(std::string_view spec, std::uint64_t seed);

    /// What gradient (worker, step) of `workers` takes beyond `compute`. Depends on (seed, worker, step) alone.
    Duration delay(WorkerId worker, Step step, std::size_t workers, Duration compute) const;

    const std::string& spec() const { return spec_; }
    /// True where some gradient that takes `compute` by itself takes longer.
    bool adds_time(Duration compute) const;
    /// How many workers there must be: those that are slow, or those that a trace has lines for.
    std::size_t workers_min() const;
    /// The first of so many workers of whom a trace has no line.
    std::optional<WorkerId> missing_in_trace(std::size_t workers) const;

  private:
    enum class Kind { none, exponential, shifted_exponential, pareto, slow, bimodal, trace };
    std::string spec_ = "none";
    Kind kind_ = Kind::none;
    std::uint64_t seed_ = 0;
    double first_ = 0;  ///< mean, shift, shape or probability
    double second_ = 0; ///< mean, scale or factor
    std::size_t slow_count_ = 0;
    std::map<std::pair<std::uint32_t, std::uint64_t>, Duration> trace_;
};

} // namespace lategrad
