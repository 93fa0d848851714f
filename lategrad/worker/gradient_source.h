/// The seam to models and devices: whatever can turn parameters and a batch into a gradient.
#pragma once

#include <span>

#include "lategrad/data/batch.h"

namespace lategrad {

struct Loss {
    double mean = 0; ///< over the batch
};

/// One worker's model. One thread at a time.
class GradientSource {
  public:
    virtual ~GradientSource() = default;

    /// Writes the mean gradient over `batch` at `params` to `grad`. Both have `size()` floats and are aligned to 64
    /// bytes: first the trainable parameters, then the model's float buffers (BatchNorm's running statistics), which
    /// are read from `params` and written, as this batch left them, to the tail of `grad`. Keeps neither.
    virtual Loss compute(std::span<const float> params, std::span<float> grad, const Batch& batch) = 0;

    /// Floats in the flat vectors: trainable ones, then buffers.
    virtual std::size_t trainable() const = 0;
    virtual std::size_t size() const = 0;
};

} // namespace lategrad
