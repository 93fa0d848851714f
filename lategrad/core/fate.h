/// What becomes of a gradient, and why.
#pragma once

#include <cstdint>
#include <string_view>

namespace lategrad {

/// The only four fates. `hold` is final only at the end of a run.
enum class Fate : std::uint8_t { apply, hold, drop, lost };

/// Why. Text is made only when shown.
enum class Reason : std::uint8_t {
    none,        ///< no gradient before this one
    fresh,       ///< computed on the current version
    late,        ///< its base version was updated before it arrived
    too_stale,   ///< staler than --staleness-max
    not_finite,  ///< holds a NaN or an infinity
    malformed,   ///< its payload has not the model's size
    cancelled,   ///< its worker was told to start anew (--cancel-late)
    worker_gone, ///< its worker left or died
    run_ended,   ///< the run ended before it arrived
    too_large,   ///< its norm is beyond --reject-norm times the running median
    excluded,    ///< its worker was excluded for gradients that could not be used (--quarantine-after)
    rolled_back, ///< in flight when the server of the run was lost; the run was resumed from before that
};
inline constexpr Reason kLastReason = Reason::rolled_back;

std::string_view to_string(Fate fate);
std::string_view to_string(Reason reason);

} // namespace lategrad
