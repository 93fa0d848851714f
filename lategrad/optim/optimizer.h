/// Optimizers on spans, as they run on the server: one pass over memory, chunk by chunk, on all threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lategrad {

class Archive;

struct OptimizerOptions {
    std::string kind = "sgd"; ///< sgd, adam or adamw
    double momentum = 0;      ///< sgd
    bool nesterov = false;    ///< sgd; needs momentum > 0
    double weight_decay = 0;  ///< L2 for sgd and adam, decoupled for adamw (Loshchilov and Hutter 2019)
    double beta1 = 0.9;       ///< adam, adamw (Kingma and Ba 2015, algorithm 1)
    double beta2 = 0.999;
    double epsilon = 1e-8;
};

/// The same formulas, in the same order, as torch::optim of that name. No FMA; the same bits on every SIMD target.
class Optimizer {
  public:
    virtual ~Optimizer() = default;

    virtual std::string_view name() const = 0;

    /// Once before the chunks of an update. `learning_rate` is that of this update.
    virtual void begin_update(double learning_rate) = 0;

    /// What a gradient moves the parameters by at this learning rate, up to a constant; finite. By this a worker
    /// rescales what it left out of one step and adds to another.
    virtual float step_scale(double learning_rate) const {
        return static_cast<float>(std::min<double>(learning_rate, std::numeric_limits<float>::max()));
    }

    /// Parameters [first, first + grad.size()): reads `in` and `grad`, writes `out` (which may be `in`). Threads may
    /// call this at once on disjoint ranges. All spans are of one length.
    virtual void apply(std::size_t first, std::span<const float> in, std::span<float> out,
                       std::span<const float> grad) = 0;

    /// State vectors of the parameters' length (momentum; Adam's moments), for checkpoints and memory accounts.
    virtual std::vector<std::span<float>> state() = 0;
    /// Updates begun so far (Adam's bias correction counts them).
    virtual std::uint64_t updates() const = 0;

    /// All that it knows, for an optimizer of the same kind and as many parameters, between two updates or between
    /// begin_update and apply. The vectors are copied.
    virtual void persist(Archive& archive) = 0;
};

/// Throws InputError for an unknown kind or a value out of range, naming the option.
std::unique_ptr<Optimizer> make_optimizer(const OptimizerOptions& options, std::size_t parameters);

} // namespace lategrad
