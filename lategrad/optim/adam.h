#pragma once

#include "lategrad/core/buffer.h"
#include "lategrad/optim/optimizer.h"

namespace lategrad {

enum class WeightDecay : bool { l2, decoupled };

/// Kingma and Ba 2015, algorithm 1; with decoupled weight decay it is AdamW (Loshchilov and Hutter 2019, algorithm 2).
/// m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², p ← p − (lr/(1−β₁ᵗ))·m / (√v/√(1−β₂ᵗ) + ε).
class Adam final : public Optimizer {
  public:
    Adam(const OptimizerOptions& options, WeightDecay decay, std::size_t parameters);

    std::string_view name() const override { return decay_ == WeightDecay::l2 ? "adam" : "adamw"; }
    void begin_update(double learning_rate) override;
    /// Its step does not grow with the gradient: a rescaled one would only disturb v.
    float step_scale(double) const override { return 1; }
    void apply(std::size_t first, std::span<const float> in, std::span<float> out,
               std::span<const float> grad) override;
    std::vector<std::span<float>> state() override { return {mean_.floats(), square_.floats()}; }
    std::uint64_t updates() const override { return updates_; }
    void persist(Archive& archive) override;

    /// One update's numbers, each computed in double and rounded to float once.
    struct Factors {
        float l2 = 0;     ///< added to the gradient, times the parameter
        float shrink = 1; ///< 1 − lr·decay when decoupled
        float beta1 = 0;
        float fresh1 = 0; ///< 1 − β₁
        float beta2 = 0;
        float fresh2 = 0;
        float root_correction2 = 1; ///< √(1−β₂ᵗ)
        float epsilon = 0;
        float step_size = 0; ///< lr/(1−β₁ᵗ)
    };

  private:
    OptimizerOptions options_;
    WeightDecay decay_;
    Factors factors_;
    std::uint64_t updates_ = 0;
    Buffer mean_;
    Buffer square_;
};

} // namespace lategrad
