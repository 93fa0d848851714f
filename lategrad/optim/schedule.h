/// Learning rates over the course of a run.
#pragma once

#include <cstdint>
#include <string_view>

namespace lategrad {

/// How far a run has come. Schedules count applied examples, so that a policy that applies less does not decay sooner.
struct TrainingProgress {
    std::uint64_t examples_applied = 0;
    std::uint64_t epoch_examples = 1; ///< the training part's size
    double done = 0;                  ///< share of the whole run, 0 … 1; needed by cosine alone
};

/// `constant`, `step:EPOCHS,FACTOR` (times FACTOR every EPOCHS) or `cosine[:FINAL]` (half a cosine from 1 to FINAL of
/// the learning rate, default 0, over the whole run; Loshchilov and Hutter 2017); each with `+warmup:EPOCHS` (linear
/// from 0).
class Schedule {
  public:
    /// Throws InputError naming `--lr-schedule`.
    static Schedule parse(std::string_view spec);

    /// True for cosine: the run must have an end in updates or epochs.
    bool needs_end() const { return kind_ == Kind::cosine; }
    /// True for steps by a factor above 1.
    bool exceeds_base() const { return step_factor_ > 1; }
    /// What the base learning rate is multiplied with.
    double factor(const TrainingProgress& progress) const;

  private:
    enum class Kind { constant, step, cosine };
    Kind kind_ = Kind::constant;
    double step_epochs_ = 1;
    double step_factor_ = 1;
    double cosine_final_ = 0;
    double warmup_epochs_ = 0;
};

} // namespace lategrad
