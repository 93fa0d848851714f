/// What is computed for real while time is virtual.
#pragma once

#include "lategrad/core/fate.h"
#include "lategrad/node/node.h"
#include "lategrad/worker/gradient_codecs.h"

namespace lategrad {

class Archive;

/// Gradients, updates and evaluations of a simulated cluster. One thread calls; the results depend on what is asked for
/// alone, not on when or on how many threads it is computed.
class Computation {
  public:
    virtual ~Computation() = default;

    /// A new process of this worker begins, in this memory.
    virtual void begin_life(WorkerId worker, WorkerBuffers& buffers) = 0;
    /// A gradient that will be wanted at `due`, virtual time; may go on in the background. REQUIRES: the worker's one
    /// before is finished or cancelled.
    virtual void start(WorkerId worker, const ComputeJob& job, Time due) = 0;
    struct Computed {
        double loss = 0;
        Buffer payload; ///< encoded; empty where it is not finite
    };
    /// Waits for it. Throws what went wrong.
    virtual Computed finish(WorkerId worker) = 0;
    /// It is not wanted. Afterwards nobody holds its buffers.
    virtual void cancel(WorkerId worker) = 0;

    /// Reads a push's payload as it arrives, and fills in what it found.
    virtual void validate(MessageArrived& push) = 0;
    virtual void update(UpdateTask& task) = 0;

    /// All of its state, between two calls: what is under way is computed again by who reads it.
    virtual void persist(Archive& archive) = 0;

    /// A version to be evaluated; may go on in the background.
    virtual void evaluate(const Snapshot& snapshot) = 0;
    /// Waits for the oldest evaluation. Throws what went wrong; nothing where there is no answer.
    virtual std::optional<Evaluation> finish_evaluation() = 0;
};

} // namespace lategrad
