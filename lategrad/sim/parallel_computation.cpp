#include "lategrad/sim/parallel_computation.h"

#include <utility>

#include "lategrad/core/error.h"

namespace lategrad {

ParallelComputation::ParallelComputation(std::vector<std::unique_ptr<GradientSource>> sources,
                                         std::vector<Batcher> batchers, Evaluate evaluate, const Codec& codec,
                                         const PublishCodec& publish_codec, ThreadPool& updates, PushCheck check)
    : sources_(std::move(sources)),
      batchers_(std::move(batchers)),
      evaluate_(std::move(evaluate)),
      codec_(codec),
      check_(check),
      publish_codec_(publish_codec),
      updates_(updates),
      gradients_(batchers_.size()) {
    CHECK(!sources_.empty());
    try {
        for (const auto& source : sources_) threads_.emplace_back([this, &source] { run(*source); });
    } catch (...) { // a thread does not start; those that did wait for tasks
        stop();
        throw;
    }
}

ParallelComputation::~ParallelComputation() {
    stop();
}

void ParallelComputation::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    submitted_.notify_all();
}

void ParallelComputation::begin_life(WorkerId worker, WorkerBuffers& buffers) {
    CHECK(!gradients_[worker.value()].task);
    gradients_[worker.value()].codecs.emplace(codec_, publish_codec_, worker, buffers);
}

void ParallelComputation::start(WorkerId worker, const ComputeJob& job, Time due) {
    Gradient& gradient = gradients_[worker.value()];
    CHECK(!gradient.task && gradient.codecs);
    Batcher& batcher = batchers_[worker.value()]; // of one task at a time
    gradient.job = job;
    gradient.task = submit(due, [&gradient, &batcher](GradientSource& source, Batch& batch) {
        ComputeJob& mine = gradient.job;
        batcher.draw(mine.data, batch);
        const Buffer params = gradient.codecs->decode(mine);
        gradient.loss = source.compute(params.floats(), mine.grad.floats(), batch).mean;
    });
}

Computation::Computed ParallelComputation::finish(WorkerId worker) {
    Gradient& gradient = gradients_[worker.value()];
    const TaskPtr task = std::exchange(gradient.task, nullptr);
    CHECK(task);
    wait_for(*task);
    ComputeJob job = std::exchange(gradient.job, {});
    // Not by the task: whether one that is given up has been encoded must not depend on how fast this machine is.
    return {.loss = gradient.loss, .payload = gradient.codecs->encode(job)};
}

void ParallelComputation::cancel(WorkerId worker) {
    const TaskPtr task = std::exchange(gradients_[worker.value()].task, nullptr);
    CHECK(task);
    std::unique_lock lock(mutex_);
    if (task->state == State::waiting) {
        task->state = State::cancelled;
        task->work = nullptr;
    }
    // One that has begun is waited for: when its memory is free again must not depend on how fast this machine is.
    ended_.wait(lock, [&] { return task->state == State::done || task->state == State::cancelled; });
    gradients_[worker.value()].job = {};
}

void ParallelComputation::validate(MessageArrived& push) {
    check_(push);
}

void ParallelComputation::evaluate(const Snapshot& snapshot) {
    Judged judged;
    judged.result = std::make_unique<Evaluation>();
    judged.task = submit(snapshot.at, [this, snapshot, &result = *judged.result](GradientSource&, Batch&) {
        result = evaluate_(snapshot);
    });
    judged_.push(std::move(judged));
}

std::optional<Evaluation> ParallelComputation::finish_evaluation() {
    CHECK(!judged_.empty());
    const Judged judged = std::move(judged_.front());
    judged_.pop();
    wait_for(*judged.task);
    return *judged.result;
}

ParallelComputation::TaskPtr ParallelComputation::submit(Time due, std::function<void(GradientSource&, Batch&)> work) {
    const std::lock_guard lock(mutex_);
    auto task = std::make_shared<Task>(Task{.due = due, .number = numbers_++, .work = std::move(work)});
    tasks_.push(task);
    submitted_.notify_one();
    return task;
}

void ParallelComputation::wait_for(Task& task) {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [&] { return task.state == State::done; });
    if (task.failure) std::rethrow_exception(task.failure);
}

void ParallelComputation::run(GradientSource& source) {
    Batch batch;
    std::unique_lock lock(mutex_);
    for (;;) {
        submitted_.wait(lock, [&] { return stopping_ || !tasks_.empty(); });
        if (stopping_) return;
        const TaskPtr task = tasks_.top();
        tasks_.pop();
        if (task->state == State::cancelled) continue;
        task->state = State::running;
        lock.unlock();
        try {
            task->work(source, batch);
        } catch (...) {
            task->failure = std::current_exception();
        }
        task->work = nullptr; // lets go of its buffers, before anybody is told
        lock.lock();
        task->state = State::done;
        ended_.notify_all();
    }
}

} // namespace lategrad
