#include "lategrad/optim/optimizer.h"

#include <fmt/format.h>

#include <cmath>

#include "lategrad/core/error.h"
#include "lategrad/optim/adam.h"
#include "lategrad/optim/sgd.h"

namespace lategrad {
namespace {

void require(bool in_range, std::string_view option, double value, std::string_view range) {
    if (!in_range) throw InputError(fmt::format("{} {}: must be {}", option, value, range));
}

} // namespace

std::unique_ptr<Optimizer> make_optimizer(const OptimizerOptions& options, std::size_t parameters) {
    const auto share = [](double value) { return value >= 0 && value < 1; }; // false for NaN
    require(options.weight_decay >= 0 && std::isfinite(options.weight_decay), "--weight-decay", options.weight_decay,
            "0 or more");
    require(share(options.momentum), "--momentum", options.momentum, "in [0, 1)");
    if (options.kind == "sgd") {
        if (options.nesterov && options.momentum == 0) throw InputError("--nesterov: needs --momentum above 0");
        return std::make_unique<Sgd>(options, parameters);
    }
    if (options.kind != "adam" && options.kind != "adamw") {
        throw InputError(fmt::format("--optimizer {}: expected sgd, adam or adamw", options.kind));
    }
    if (options.momentum != 0 || options.nesterov) {
        throw InputError(
            options.nesterov
                ? fmt::format("--nesterov: only for --optimizer sgd, not {}; leave it out", options.kind)
                : fmt::format("--momentum {}: only for --optimizer sgd; with {} set it to 0 (--momentum 0)",
                              options.momentum, options.kind));
    }
    require(share(options.beta1), "--beta1", options.beta1, "in [0, 1)");
    require(share(options.beta2), "--beta2", options.beta2, "in [0, 1)");
    require(options.epsilon > 0 && std::isfinite(options.epsilon), "--epsilon", options.epsilon, "above 0");
    return std::make_unique<Adam>(options, options.kind == "adam" ? WeightDecay::l2 : WeightDecay::decoupled,
                                  parameters);
}

} // namespace lategrad
