#pragma once

#include "lategrad/core/buffer.h"
#include "lategrad/optim/optimizer.h"

namespace lategrad {

/// With d = g + decay·p: b ← momentum·b + d, then p ← p − lr·b, or p − lr·(d + momentum·b) for Nesterov's. Without
/// momentum p ← p − lr·d, and there is no state.
class Sgd final : public Optimizer {
  public:
    Sgd(const OptimizerOptions& options, std::size_t parameters);

    std::string_view name() const override { return "sgd"; }
    void begin_update(double learning_rate) override;
    void apply(std::size_t first, std::span<const float> in, std::span<float> out,
               std::span<const float> grad) override;
    std::vector<std::span<float>> state() override;
    std::uint64_t updates() const override { return updates_; }
    void persist(Archive& archive) override;

    struct Factors {
        float learning_rate = 0;
        float momentum = 0;
        float weight_decay = 0;
        bool nesterov = false;
    };

  private:
    Factors factors_;
    std::uint64_t updates_ = 0;
    Buffer momentum_; ///< empty without momentum
};

} // namespace lategrad
