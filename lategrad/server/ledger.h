/// Every gradient has exactly one fate. The ledger counts assignments: each sending of parameters that starts a
/// gradient ends as applied, dropped, held (at the end of the run) or lost.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "lategrad/core/fate.h"
#include "lategrad/core/ids.h"

namespace lategrad {

class Archive;

struct LedgerTotals {
    std::uint64_t pushed = 0; ///< assignments
    std::uint64_t applied = 0;
    std::uint64_t dropped = 0;
    std::uint64_t held = 0; ///< waiting for an update
    std::uint64_t lost = 0;
    std::uint64_t open = 0;  ///< being computed or on the way; 0 at the end of a run
    std::uint64_t stray = 0; ///< arrived without an open assignment; no assignment, so not in the sum

    std::map<std::string, std::uint64_t> by_name() const;
    bool adds_up() const { return pushed == applied + dropped + held + lost + open; }
    template <class A>
    void archive(A& archive) {
        archive(pushed, applied, dropped, held, lost, open, stray);
    }
    friend bool operator==(const LedgerTotals&, const LedgerTotals&) = default;
};

/// What a worker's open assignments are: the steps [first, next). A worker computes them in order and has one at a
/// time, but for those it was told to give up.
class Ledger {
  public:
    /// Opens the worker's next assignment, on the parameters of `base`.
    Step assign(WorkerId worker, Version base);

    /// True for the step of an open assignment and the version it was given.
    bool is_open(WorkerId worker, Step step, Version base) const;
    bool has_open(WorkerId worker) const;
    Step first_open(WorkerId worker) const { return accounts_[worker.value()].first; }

    /// The worker's oldest open assignment ends without a gradient. REQUIRES: has_open(worker).
    Step lose_first(WorkerId worker);
    /// The worker's oldest open assignment has arrived: held until apply, or dropped. REQUIRES: has_open(worker).
    void arrive_first(WorkerId worker, Fate fate);
    /// A held one was applied.
    void apply();
    void count_stray() { ++totals_.stray; }

    const LedgerTotals& totals() const { return totals_; }
    /// Workers that were assigned something: their ids are below.
    std::size_t workers() const { return accounts_.size(); }

    void persist(Archive& archive);

  private:
    struct Account {
        Step first;
        std::uint64_t open = 0;
        Version base;                ///< of the first open step
        std::vector<Version> others; ///< of those after it; what was given up and not yet told of is rare

        template <class A>
        void archive(A& archive) {
            archive(first, open, base, others);
        }
    };
    void close_first(WorkerId worker);

    std::vector<Account> accounts_;
    LedgerTotals totals_;
};

} // namespace lategrad
