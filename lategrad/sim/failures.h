/// When workers leave and come back, in virtual time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lategrad/core/ids.h"
#include "lategrad/core/time.h"

namespace lategrad {

/// One line of a script: this worker dies, or a new process of it starts.
struct ScriptedFailure {
    Duration at; ///< since all workers were there
    WorkerId worker;
    bool leaves = true;
};

/// `none`; `mtbf:MEAN,rejoin:TIME[,detect:TIME]`: each worker dies after an exponential time with that mean, counted
/// from the first parameters it is sent, is missed by the server `detect` later, and comes back after `rejoin`;
/// `script:FILE.csv` with columns seconds (since all workers were there), worker, event (leave or join).
class FailureModel {
  public:
    /// Throws InputError naming `--failures`, and the file and line of a script.
    static FailureModel parse(std::string_view spec, std::uint64_t seed);

    /// How long a worker lives in its life number `life`: 1, 2, …. Depends on (seed, worker, life) alone.
    /// REQUIRES: random().
    Duration lifetime(WorkerId worker, std::uint64_t life) const;
    /// Of `mtbf`, in seconds.
    std::optional<double> mean_lifetime() const { return random_ ? std::optional(mtbf_) : std::nullopt; }
    bool random() const { return random_; }
    Duration rejoin() const { return rejoin_; }
    Duration detect() const { return detect_; }
    const std::vector<ScriptedFailure>& script() const { return script_; }
    /// How many workers there must be for the script.
    std::size_t workers_min() const;

  private:
    std::uint64_t seed_ = 0;
    bool random_ = false;
    double mtbf_ = 0; ///< seconds
    Duration rejoin_{0};
    Duration detect_{0};
    std::vector<ScriptedFailure> script_; ///< in the order of time
};

} // namespace lategrad
