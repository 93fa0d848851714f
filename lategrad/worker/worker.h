/// The worker: parameters in → a gradient asked for → push out.
#pragma once

#include <cstdint>
#include <optional>

#include "lategrad/codec/codec.h"
#include "lategrad/node/node.h"

namespace lategrad {

struct WorkerOptions {
    WorkerId worker;
    std::uint32_t examples = 1; ///< its batch size, b
    std::uint64_t run = 0;      ///< names the run on the wire
    std::size_t size = 0;       ///< floats in the flat vectors (GradientSource)
};

/// A pure state machine (node.h). Computes one gradient at a time, on the parameters it was sent last.
class Worker final : public Node {
  public:
    /// `gradients` lends the buffers that gradients live in until their fate is settled: one that is computed, those
    /// held for an update, and one more while a send is not yet known to be complete. Where all are on their way
    /// (--cancel-late over a slow link), the next gradient waits for one.
    Worker(const WorkerOptions& options, Codec& codec, BufferPool& gradients);

    void handle(const Event& event, Time now, Effects& out) override;

    /// How many `gradients` must lend where so many of a worker's gradients wait for one update.
    static constexpr std::size_t gradient_buffers(std::size_t held_max) { return held_max + 2; }

  private:
    void on_message(const Message& message, Effects& out);
    void on_compute_done(const ComputeDone& done, Effects& out);
    void start_next(Time now, Effects& out);
    void leave(Time now, Effects& out);
    void send(Message message, Effects& out);

    WorkerOptions options_;
    Codec& codec_;
    BufferPool& gradients_;
    bool said_hello_ = false;
    bool stopping_ = false;
    std::optional<ComputeJob> computing_;
    std::optional<Message> next_; ///< to compute on, once the gradient being computed is made or given up
};

} // namespace lategrad
