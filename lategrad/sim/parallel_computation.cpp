#include "lategrad/sim/parallel_computation.h"

#include <utility>

#include "lategrad/core/archive.h"
#include "lategrad/core/error.h"

namespace lategrad {

ParallelComputation::ParallelComputation(std::vector<std::unique_ptr<GradientSource>> sources,
                                         std::vector<Batcher> batchers, Evaluate evaluate, const Codec& codec,
                                         const PublishCodec& publish_codec, ThreadPool& updates, const PushCheck& check)
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
    gradient.job = job;
    compute(gradient, batchers_[worker.value()], due);
}

/// The batcher is of one task at a time.
void ParallelComputation::compute(Gradient& gradient, Batcher& batcher, Time due) {
    gradient.due = due;
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
    judged.snapshot = snapshot;
    judged.result = std::make_unique<Evaluation>();
    judged.task = submit(snapshot.at, [this, snapshot, &result = *judged.result](GradientSource&, Batch&) {
        result = evaluate_(snapshot);
    });
    judged_.push_back(std::move(judged));
}

std::optional<Evaluation> ParallelComputation::finish_evaluation() {
    CHECK(!judged_.empty());
    const Judged judged = std::move(judged_.front());
    judged_.pop_front();
    wait_for(*judged.task);
    return *judged.result;
}

void ParallelComputation::persist(Archive& archive) {
    archive.section("computation");
    archive.expect(gradients_.size(), "the number of workers");
    for (std::size_t i = 0; i < gradients_.size(); ++i) {
        Gradient& gradient = gradients_[i];
        // The task uses what is written here. One that has failed is begun again by whoever reads this, as the others.
        if (gradient.task) wait_for_end(*gradient.task);
        bool under_way = gradient.task != nullptr;
        archive(under_way);
        if (under_way) {
            lategrad::persist(archive, gradient.job);
            archive(gradient.due);
        }
        archive(*gradient.codecs);
        if (archive.reading() && under_way) compute(gradient, batchers_[i], gradient.due);
    }
    std::size_t evaluations = judged_.size();
    archive(evaluations);
    for (std::size_t i = 0; i < evaluations; ++i) {
        Snapshot snapshot = archive.reading() ? Snapshot{} : judged_[i].snapshot;
        archive(snapshot.version, snapshot.at, snapshot.examples_applied, snapshot.params);
        if (archive.reading()) evaluate(snapshot);
    }
}

ParallelComputation::TaskPtr ParallelComputation::submit(Time due, std::function<void(GradientSource&, Batch&)> work) {
    const std::lock_guard lock(mutex_);
    auto task = std::make_shared<Task>(Task{.due = due, .number = numbers_++, .work = std::move(work)});
    tasks_.push(task);
    submitted_.notify_one();
    return task;
}

void ParallelComputation::wait_for_end(Task& task) {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [&] { return task.state == State::done; });
}

void ParallelComputation::wait_for(Task& task) {
    wait_for_end(task);
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
