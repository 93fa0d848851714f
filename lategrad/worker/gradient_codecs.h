/// What lies between messages and a worker's gradients: parameters are decoded before, the gradient is encoded after.
/// Shared by all who compute for a worker: the runtime's thread, the simulator, the replay.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <string>

#include "lategrad/codec/codec.h"
#include "lategrad/codec/publish.h"
#include "lategrad/core/archive.h"
#include "lategrad/core/error.h"
#include "lategrad/node/node.h"

namespace lategrad {

/// At which scale of steps (Optimizer::step_scale) a residual was left: what was left out of a step at one is worth
/// another gradient at another one, and nothing at 0, where a warm-up begins.
class ResidualScale {
  public:
    /// EncodeStep::residual_scale for a gradient at this scale of steps.
    float to(float step_scale) const {
        using Limits = std::numeric_limits<float>;
        if (!left_at_ || step_scale <= 0) return 1;
        return std::clamp(*left_at_ / step_scale, Limits::min(), Limits::max()); // as EncodeStep wants it
    }
    /// A gradient was encoded at this scale of steps.
    void encoded_at(float step_scale) { left_at_ = step_scale; }

    void persist(Archive& archive) {
        archive(left_at_);
        archive.require(!left_at_ || (std::isfinite(*left_at_) && *left_at_ >= 0), "a residual of no scale");
    }

  private:
    std::optional<float> left_at_;
};

/// The memory that a worker's parameters and gradients live in. Its gradients, until their fate is settled: one that is
/// computed, so many of them held for an update, and one more while a send is not yet known to be complete; with error
/// feedback one more, which is kept until its fate is known. Where all are on their way (--cancel-late over a slow
/// link), the next gradient waits for one.
struct WorkerBuffers {
    /// `size`: floats in the flat vectors. `held_max`: how many of a worker's gradients wait for one update.
    WorkerBuffers(const Codec& codec, std::size_t size, std::size_t held_max,
                  BufferPool::Memory memory = BufferPool::Memory::real)
        : params(2 * size * sizeof(float), memory),
          gradients((codec.in_place() ? held_max + 2 : 1) * size * sizeof(float), memory),
          payloads((held_max + 2 + (codec.error_feedback() ? 1 : 0)) * codec.payload_bytes_max(), memory) {}

    BufferPool params;    ///< decoded: none where they travel as they are
    BufferPool gradients; ///< floats; where a payload is not the gradient itself, one is enough
    BufferPool payloads;  ///< encoded gradients
};

/// One worker's. One thread at a time, not the communication thread: both take time.
class GradientCodecs {
  public:
    /// All outlive this.
    GradientCodecs(const Codec& codec, const PublishCodec& publish_codec, WorkerId worker, WorkerBuffers& buffers)
        : worker_(worker),
          subscriber_(publish_codec, buffers.params),
          encoder_(codec.make_encoder(worker, buffers.payloads)) {}

    /// What the gradient is to be computed on, in floats. Throws EnvironmentError where what was sent is a difference
    /// to parameters that this worker has not got.
    Buffer decode(const ComputeJob& job) {
        Buffer params = subscriber_.decode(job.params, job.version);
        if (!params) {
            throw EnvironmentError("worker " + std::to_string(worker_.value()) + ": version " +
                                   std::to_string(job.version.value()) +
                                   " came as what has changed since parameters that it does not have; it has left");
        }
        return params;
    }

    /// The gradient in `job.grad` as the payload of a push; empty where it is not finite. Lets go of the job's buffers.
    Buffer encode(ComputeJob& job) {
        if (job.refund) encoder_->refund({job.refund.data(), job.refund.bytes()});
        job.refund.reset();
        Buffer payload = encoder_->encode(job.grad, {.step = job.step, .residual_scale = job.residual_scale});
        job.grad.reset();
        return payload;
    }

    const Encoder& encoder() const { return *encoder_; }

    /// Between two gradients, for the same worker, codecs and model.
    void persist(Archive& archive) {
        archive.section("worker's codecs");
        archive.expect(worker_, "the worker");
        archive(subscriber_, *encoder_);
    }

  private:
    WorkerId worker_;
    Subscriber subscriber_;
    std::unique_ptr<Encoder> encoder_;
};

} // namespace lategrad
