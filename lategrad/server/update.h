/// The server's update: one pass over memory. Chunk by chunk in cache and over all cores: decode → weighted sum →
/// optimizer → parameters, each payload read once and the parameters written once.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "lategrad/codec/codec.h"
#include "lategrad/core/thread_pool.h"
#include "lategrad/optim/optimizer.h"

namespace lategrad {

/// One gradient of an update.
struct UpdateTerm {
    Buffer payload;
    float coefficient = 0;      ///< s·b/D
    bool gives_buffers = false; ///< its buffer tail joins the average
};

/// G = Σ coefficientᵢ·gᵢ in the order of `terms`, then the optimizer; then the mean of the buffer tails (see
/// GradientSource) over the terms that give them, or the old buffers where none does. Same terms, same bits, on any
/// number of threads and every SIMD target. Reused: a steady state allocates nothing (with blosc its library does).
class FusedUpdate {
  public:
    /// Keeps references to both. `size` floats in all, of which the first `trainable` are the optimizer's.
    FusedUpdate(const Codec& codec, Optimizer& optimizer, std::size_t trainable, std::size_t size);
    FusedUpdate(const FusedUpdate&) = delete;
    FusedUpdate& operator=(const FusedUpdate&) = delete;

    // The next update; set by the server before it starts one.
    std::vector<UpdateTerm> terms; ///< in (worker, step) order; REQUIRES: each payload validated, at least one term
    Buffer in;                     ///< version v
    Buffer out;                    ///< version v + 1; may share memory with `in`
    double learning_rate = 0;

    void run(ThreadPool& pool);

  private:
    void update_block(std::size_t block);
    void average_buffers();

    const Codec& codec_;
    Optimizer& optimizer_;
    std::size_t trainable_;
    std::size_t size_;
    std::vector<EncodedTerm> encoded_;              ///< of `terms`
    std::vector<std::span<const float>> tails_;     ///< of those that give buffers
    std::size_t block_;                             ///< elements that a thread takes at a time: whole chunks
    std::function<void(std::size_t)> update_block_; ///< built once: ThreadPool::run takes no other callable
};

} // namespace lategrad
