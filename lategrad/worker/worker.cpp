#include "lategrad/worker/worker.h"

#include <algorithm>
#include <utility>

#include "lategrad/core/archive.h"
#include "lategrad/core/error.h"

namespace lategrad {
namespace {

/// How soon a worker whose gradients are all still on their way looks for a free buffer again.
constexpr Duration kRetry = std::chrono::milliseconds(1);
/// How long a goodbye may take to leave.
constexpr Duration kGrace = std::chrono::seconds(30);
/// The same where a user waits: a server that hangs takes none.
constexpr Duration kGraceOfInterrupt = std::chrono::milliseconds(500);

} // namespace

Worker::Worker(const WorkerOptions& options, const Codec& codec, WorkerBuffers& buffers)
    : options_(options),
      codec_(codec),
      buffers_(buffers) {
    CHECK(options.examples > 0 && options.size > 0);
}

void Worker::handle(const Event& event, Time now, Effects& out) {
    if (!said_hello_) {
        said_hello_ = true;
        send({.type = MessageType::hello,
              .examples = options_.examples,
              .process = options_.process,
              .elements = options_.size,
              .payload = options_.traits},
             out);
    }
    if (const auto* arrived = std::get_if<MessageArrived>(&event)) on_message(*arrived, out);
    else if (const auto* done = std::get_if<ComputeDone>(&event)) on_compute_done(*done, out);
    else if (std::holds_alternative<PeerLeft>(event)) stopping_ = true; // there is but one peer: the server
    else if (std::holds_alternative<StopRequested>(event)) stopping_ = at_once_ = true;
    if (stopping_) leave(now, out);
    else if (next_ && !computing_) start_next(now, out);
}

void Worker::on_message(const MessageArrived& arrived, Effects& out) {
    const Message& message = arrived.message;
    if (message.type == MessageType::stop) stopping_ = told_to_stop_ = true;
    if (message.type == MessageType::refuse && !stopping_) {
        stopping_ = true;
        constexpr std::size_t kWordsMax = 4096;
        refusal_ = {.reason = message.reason,
                    .words = {reinterpret_cast<const char*>(message.payload.data()),
                              std::min(message.payload.bytes(), kWordsMax)}};
    }
    if (message.type != MessageType::parameters || stopping_) return;
    if (arrived.defect != Reason::none) { // no others will come before a gradient does
        stopping_ = true;
        return;
    }
    if (message.refunds && sent_) refund_ = sent_;
    sent_.reset();
    next_ = message;
    incarnation_ = message.incarnation;
    if (computing_ && message.cancels) out.cancel_compute = true;
}

void Worker::start_next(Time now, Effects& out) {
    Buffer grad;
    if (codec_.in_place() || buffers_.payloads.has_room(codec_.payload_bytes_max())) {
        grad = buffers_.gradients.try_lease(options_.size * sizeof(float));
    }
    if (!grad) {
        out.wake_at = now + kRetry;
        return;
    }
    computing_ = next_->step;
    version_ = next_->version;
    step_scale_ = next_->step_scale;
    out.start_compute = ComputeJob{.step = next_->step,
                                   .version = next_->version,
                                   .data = next_->data,
                                   .params = std::move(next_->payload),
                                   .grad = std::move(grad),
                                   .refund = std::move(refund_),
                                   .residual_scale = residual_scale_.to(step_scale_)};
    next_.reset();
}

void Worker::on_compute_done(const ComputeDone& done, Effects& out) {
    CHECK(computing_ == done.step);
    computing_.reset();
    if (done.failed) stopping_ = true;
    if (stopping_ || done.cancelled) return;
    // With error feedback what was encoded has left the residual: it is sent even where it is no longer wanted, so that
    // what the residual holds follows from what the server has seen (replay).
    if (next_ && next_->cancels && !codec_.error_feedback()) return;
    if (codec_.error_feedback() && done.payload) {
        sent_ = done.payload;
        residual_scale_.encoded_at(step_scale_);
    }
    send({.type = MessageType::push,
          .step = done.step,
          .version = version_,
          .examples = options_.examples,
          .loss = done.loss,
          .compute_seconds = done.compute_seconds,
          .payload = done.payload},
         out);
}

void Worker::leave(Time now, Effects& out) {
    next_.reset();
    if (computing_ && !at_once_) {
        out.cancel_compute = true; // and come back when it has been
        return;
    }
    send({.type = MessageType::goodbye}, out);
    out.done = true;
    out.wake_at = now + (at_once_ ? kGraceOfInterrupt : kGrace);
}

void Worker::persist(Archive& archive) {
    archive.section("worker");
    archive.expect(options_.worker, "the worker");
    archive.expect(options_.examples, "its batch size");
    archive(said_hello_, stopping_, told_to_stop_, at_once_, incarnation_, computing_, version_, step_scale_);
    bool has_next = next_.has_value();
    archive(has_next);
    if (archive.reading() && has_next) next_.emplace();
    if (has_next) lategrad::persist(archive, *next_);
    archive(sent_, refund_, residual_scale_);
}

void Worker::send(Message message, Effects& out) {
    message.worker = options_.worker;
    message.run = options_.run;
    message.incarnation = incarnation_;
    out.sends.push_back({kServerPeer, std::move(message)});
}

} // namespace lategrad
