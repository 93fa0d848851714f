/// A model of three parameters whose gradient anybody can compute: f(w) = ½‖w − x̄·(1, 2, 3)‖², x̄ the batch's mean.
#pragma once

#include <numeric>
#include <stdexcept>

#include "lategrad/worker/gradient_source.h"

namespace lategrad {

class Parabola final : public GradientSource {
  public:
    static constexpr std::size_t kSize = 3;

    Loss compute(std::span<const float> params, std::span<float> grad, const Batch& batch) override {
        const float sum = std::accumulate(batch.features.begin(), batch.features.end(), 0.0f);
        const float mean = sum / static_cast<float>(batch.examples);
        double loss = 0;
        for (std::size_t i = 0; i < kSize; ++i) {
            grad[i] = params[i] - mean * static_cast<float>(i + 1);
            loss += 0.5 * grad[i] * grad[i];
        }
        return {loss};
    }
    std::size_t trainable() const override { return kSize; }
    std::size_t size() const override { return kSize; }
};

/// Cannot compute anything.
class BrokenSource final : public GradientSource {
  public:
    Loss compute(std::span<const float>, std::span<float>, const Batch&) override {
        throw std::runtime_error("out of memory");
    }
    std::size_t trainable() const override { return Parabola::kSize; }
    std::size_t size() const override { return Parabola::kSize; }
};

} // namespace lategrad
