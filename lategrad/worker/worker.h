/// The worker: parameters in → a gradient asked for → push out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "lategrad/codec/codec.h"
#include "lategrad/node/node.h"
#include "lategrad/worker/gradient_codecs.h"

namespace lategrad {

struct WorkerOptions {
    WorkerId worker;
    std::uint32_t examples = 1; ///< its batch size, b
    std::uint64_t run = 0;      ///< names the run on the wire
    std::size_t size = 0;       ///< floats in the flat vectors (GradientSource)
    std::uint64_t process = 0;  ///< where the server asks who comes
    Buffer traits;              ///< payload of the hello, for the same reason (lategrad/server/admission.h)
};

/// A pure state machine (node.h). Computes one gradient at a time, on the parameters it was sent last.
class Worker final : public Node {
  public:
    /// `codec` and `buffers` outlive the worker.
    Worker(const WorkerOptions& options, const Codec& codec, WorkerBuffers& buffers);

    void handle(const Event& event, Time now, Effects& out) override;

    /// All of its state, between two events; for a worker made with the same options.
    void persist(Archive& archive);

    /// Set once the server has refused this worker, or has given it up: why, and what it said of that.
    struct Refusal {
        Reason reason;
        std::string words;
    };
    const std::optional<Refusal>& refusal() const { return refusal_; }
    /// Whether the server has said that the run is over.
    bool told_to_stop() const { return told_to_stop_; }

  private:
    void on_message(const MessageArrived& arrived, Effects& out);
    void on_compute_done(const ComputeDone& done, Effects& out);
    void start_next(Time now, Effects& out);
    void leave(Time now, Effects& out);
    void send(Message message, Effects& out);

    WorkerOptions options_;
    const Codec& codec_;
    WorkerBuffers& buffers_;
    bool said_hello_ = false;
    bool stopping_ = false;
    bool told_to_stop_ = false;
    bool at_once_ = false; ///< without waiting for the gradient being computed
    std::optional<Refusal> refusal_;
    Incarnation incarnation_; ///< of the server that sent the last parameters
    // The gradient being computed.
    std::optional<Step> computing_;
    Version version_;
    float step_scale_ = 0;
    std::optional<Message> next_; ///< to compute on, once the gradient being computed is made or given up
    // With error feedback.
    Buffer sent_;   ///< the last payload pushed, until its fate is known
    Buffer refund_; ///< for the next gradient's encoding
    ResidualScale residual_scale_;
};

} // namespace lategrad
