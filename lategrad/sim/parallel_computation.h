/// Gradients, updates and evaluations of a simulated cluster, computed on this machine's cores.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <queue>
#include <thread>
#include <vector>

#include "lategrad/codec/codec.h"
#include "lategrad/core/thread_pool.h"
#include "lategrad/data/batcher.h"
#include "lategrad/server/push_check.h"
#include "lategrad/sim/computation.h"
#include "lategrad/worker/gradient_codecs.h"
#include "lategrad/worker/gradient_source.h"

namespace lategrad {

/// Each thread computes one gradient or evaluation at a time, that which is due first. Batches depend on (worker, step)
/// alone and sources hold no state, so that the results are the same on any number of threads.
class ParallelComputation final : public Computation {
  public:
    using Evaluate = std::function<Evaluation(const Snapshot&)>;

    /// One thread per source. `batchers`: each worker's. Codecs and pool outlive this.
    ParallelComputation(std::vector<std::unique_ptr<GradientSource>> sources, std::vector<Batcher> batchers,
                        Evaluate evaluate, const Codec& codec, const PublishCodec& publish_codec, ThreadPool& updates,
                        const PushCheck& check);
    ~ParallelComputation() override;

    void begin_life(WorkerId worker, WorkerBuffers& buffers) override;
    void start(WorkerId worker, const ComputeJob& job, Time due) override;
    Computed finish(WorkerId worker) override;
    void cancel(WorkerId worker) override;
    void validate(MessageArrived& push) override;
    void persist(Archive& archive) override;
    void update(UpdateTask& task) override { task.run(updates_); }
    void evaluate(const Snapshot& snapshot) override;
    std::optional<Evaluation> finish_evaluation() override;

  private:
    enum class State { waiting, running, done, cancelled };
    struct Task {
        Time due;
        std::uint64_t number; ///< in the order in which they were asked for
        std::function<void(GradientSource&, Batch&)> work;
        State state = State::waiting;
        std::exception_ptr failure;
    };
    using TaskPtr = std::shared_ptr<Task>;
    struct Later {
        bool operator()(const TaskPtr& a, const TaskPtr& b) const {
            return std::pair(a->due, a->number) > std::pair(b->due, b->number);
        }
    };
    struct Gradient {
        std::optional<GradientCodecs> codecs; ///< of its worker's process
        TaskPtr task;
        ComputeJob job;
        Time due;
        double loss = 0;
    };
    struct Judged {
        TaskPtr task;
        Snapshot snapshot;
        std::unique_ptr<Evaluation> result;
    };

    void compute(Gradient& gradient, Batcher& batcher, Time due);
    TaskPtr submit(Time due, std::function<void(GradientSource&, Batch&)> work);
    void wait_for_end(Task& task);
    void wait_for(Task& task); ///< throws what it has thrown
    void run(GradientSource& source);
    void stop();

    std::vector<std::unique_ptr<GradientSource>> sources_;
    std::vector<Batcher> batchers_;
    Evaluate evaluate_;
    const Codec& codec_;
    PushCheck check_;
    const PublishCodec& publish_codec_;
    ThreadPool& updates_;
    std::vector<Gradient> gradients_; ///< by worker
    std::deque<Judged> judged_;       ///< in the order in which they were asked for

    std::mutex mutex_;
    std::condition_variable submitted_, ended_;
    std::priority_queue<TaskPtr, std::vector<TaskPtr>, Later> tasks_;
    std::uint64_t numbers_ = 0;
    bool stopping_ = false;
    std::vector<std::jthread> threads_; ///< last: they use all of the above
};

} // namespace lategrad
