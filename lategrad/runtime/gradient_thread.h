/// Computes a worker's gradients: draws the batch, computes, encodes, and straggles as it was told to.
#pragma once

#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>

#include "lategrad/data/batcher.h"
#include "lategrad/runtime/job_thread.h"
#include "lategrad/runtime/mailbox.h"
#include "lategrad/worker/gradient_codecs.h"
#include "lategrad/worker/gradient_source.h"
#include "lategrad/worker/straggle.h"

namespace lategrad {

class GradientThread {
  public:
    /// `source`, `straggle` and `mailbox` outlive the thread. `workers`: how many there are in the run.
    GradientThread(WorkerId worker, std::size_t workers, Batcher batcher, GradientSource& source, GradientCodecs codecs,
                   const StraggleModel& straggle, Mailbox& mailbox);
    /// Computes nothing: every gradient is zeros, after a sleep of `compute` and what `straggle` adds to it.
    GradientThread(WorkerId worker, std::size_t workers, Duration compute, GradientCodecs codecs,
                   const StraggleModel& straggle, Mailbox& mailbox);
    ~GradientThread() { cancel(); }

    /// Answers with ComputeDone. REQUIRES: the one before has answered.
    void start(const ComputeJob& job);
    /// The gradient being computed is not wanted any more: the sleep of a straggler ends at once, a computation under
    /// way is finished.
    void cancel();
    /// What went wrong in a computation; its ComputeDone has then `failed`. Empty: nothing did.
    std::exception_ptr failure() const;

  private:
    void compute(ComputeJob& job);

    WorkerId worker_;
    std::size_t workers_;
    std::optional<Batcher> batcher_;
    GradientSource* source_ = nullptr; ///< null: a gradient is a sleep of compute_
    Duration compute_{0};
    GradientCodecs codecs_;
    const StraggleModel& straggle_;
    Mailbox& mailbox_;
    Batch batch_;
    mutable std::mutex mutex_;
    std::condition_variable cancelled_changed_;
    bool cancelled_ = false;
    std::exception_ptr failure_;
    JobThread<ComputeJob> thread_; // last: it uses all of the above
};

} // namespace lategrad
