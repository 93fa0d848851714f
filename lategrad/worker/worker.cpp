#include "lategrad/worker/worker.h"

#include <utility>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

/// How soon a worker whose gradients are all still on their way looks for a free buffer again.
constexpr Duration kRetry = std::chrono::milliseconds(1);
/// How long a goodbye may take to leave.
constexpr Duration kGrace = std::chrono::seconds(30);

} // namespace

Worker::Worker(const WorkerOptions& options, Codec& codec, BufferPool& gradients)
    : options_(options),
      codec_(codec),
      gradients_(gradients) {
    CHECK(options.examples > 0 && options.size > 0);
}

void Worker::handle(const Event& event, Time now, Effects& out) {
    if (!said_hello_) {
        said_hello_ = true;
        send({.type = MessageType::hello, .examples = options_.examples, .elements = options_.size}, out);
    }
    if (const auto* arrived = std::get_if<MessageArrived>(&event)) on_message(arrived->message, out);
    else if (const auto* done = std::get_if<ComputeDone>(&event)) on_compute_done(*done, out);
    else if (std::holds_alternative<PeerLeft>(event)) stopping_ = true; // there is but one peer: the server
    if (stopping_) leave(now, out);
    else if (next_ && !computing_) start_next(now, out);
}

void Worker::on_message(const Message& message, Effects& out) {
    if (message.type == MessageType::stop) stopping_ = true;
    if (message.type != MessageType::parameters || stopping_) return;
    if (message.payload.bytes() != options_.size * sizeof(float)) return; // not ours to compute on
    next_ = message;
    if (computing_ && message.cancels) out.cancel_compute = true;
}

void Worker::start_next(Time now, Effects& out) {
    Buffer grad = gradients_.try_lease(options_.size * sizeof(float));
    if (!grad) {
        out.wake_at = now + kRetry;
        return;
    }
    computing_ = ComputeJob{
        .step = next_->step, .version = next_->version, .params = std::move(next_->payload), .grad = std::move(grad)};
    next_.reset();
    out.start_compute = computing_;
}

void Worker::on_compute_done(const ComputeDone& done, Effects& out) {
    CHECK(computing_ && computing_->step == done.step);
    const ComputeJob job = *std::exchange(computing_, std::nullopt);
    if (done.failed) stopping_ = true;
    if (stopping_ || done.cancelled || (next_ && next_->cancels)) return;
    send({.type = MessageType::push,
          .step = job.step,
          .version = job.version,
          .examples = options_.examples,
          .loss = done.loss,
          .compute_seconds = done.compute_seconds,
          .payload = codec_.encode(job.grad)},
         out);
}

void Worker::leave(Time now, Effects& out) {
    next_.reset();
    if (computing_) {
        out.cancel_compute = true; // and come back when it has been
        return;
    }
    send({.type = MessageType::goodbye}, out);
    out.done = true;
    out.wake_at = now + kGrace;
}

void Worker::send(Message message, Effects& out) {
    message.worker = options_.worker;
    message.run = options_.run;
    out.sends.push_back({kServerPeer, std::move(message)});
}

} // namespace lategrad
