#include "lategrad/runtime/gradient_thread.h"

#include <algorithm>
#include <chrono>

namespace lategrad {

GradientThread::GradientThread(WorkerId worker, std::size_t workers, Batcher batcher, GradientSource& source,
                               GradientCodecs codecs, const StraggleModel& straggle, Mailbox& mailbox)
    : worker_(worker),
      workers_(workers),
      batcher_(std::move(batcher)),
      source_(&source),
      codecs_(std::move(codecs)),
      straggle_(straggle),
      mailbox_(mailbox),
      thread_([this](ComputeJob& job) { compute(job); }) {}

GradientThread::GradientThread(WorkerId worker, std::size_t workers, Duration compute, GradientCodecs codecs,
                               const StraggleModel& straggle, Mailbox& mailbox)
    : worker_(worker),
      workers_(workers),
      compute_(compute),
      codecs_(std::move(codecs)),
      straggle_(straggle),
      mailbox_(mailbox),
      thread_([this](ComputeJob& job) { this->compute(job); }) {}

void GradientThread::start(const ComputeJob& job) {
    {
        const std::lock_guard lock(mutex_);
        cancelled_ = false;
    }
    thread_.start(job);
}

void GradientThread::cancel() {
    {
        const std::lock_guard lock(mutex_);
        cancelled_ = true;
    }
    cancelled_changed_.notify_one();
}

std::exception_ptr GradientThread::failure() const {
    const std::lock_guard lock(mutex_);
    return failure_;
}

void GradientThread::compute(ComputeJob& job) {
    const auto begin = std::chrono::steady_clock::now();
    ComputeDone done{.step = job.step};
    try {
        Duration computed = compute_;
        if (source_) {
            batcher_->draw(job.data, batch_);
            const Buffer params = codecs_.decode(job);
            done.loss = source_->compute(params.floats(), job.grad.floats(), batch_).mean;
            computed = std::chrono::steady_clock::now() - begin;
        } else {
            std::ranges::fill(job.grad.floats(), 0.0F);
        }
        const Duration delay = straggle_.delay(worker_, job.step, workers_, computed);
        std::unique_lock lock(mutex_);
        if (!source_ || delay > Duration::zero()) {
            cancelled_changed_.wait_until(lock, begin + computed + delay, [this] { return cancelled_; });
        }
        done.cancelled = cancelled_;
        lock.unlock();
        if (!done.cancelled) done.payload = codecs_.encode(job);
    } catch (...) {
        const std::lock_guard lock(mutex_);
        failure_ = std::current_exception();
        done.failed = true;
    }
    done.compute_seconds = seconds(Duration(std::chrono::steady_clock::now() - begin));
    // Let go first: whoever is told may want the memory.
    job.params.reset();
    job.grad.reset();
    mailbox_.post(std::move(done));
}

} // namespace lategrad
