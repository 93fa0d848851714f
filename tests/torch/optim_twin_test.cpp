/// Our optimizers against libtorch's own of the same name.
#include <gmock/gmock.h>

#include "lategrad/core/random.h"
#include "lategrad/optim/optimizer.h"
#include "lategrad/torch/torch_headers.h"
#include "tests/torch/array_data.h"

namespace lategrad {
namespace {

constexpr std::size_t kParameters = 1003;
constexpr double kLearningRate = 0.01;

torch::Tensor random_tensor(RandomStream& random) {
    torch::Tensor tensor = torch::empty({static_cast<std::int64_t>(kParameters)});
    float* next = tensor.data_ptr<float>();
    for (std::size_t i = 0; i < kParameters; ++i) *next++ = static_cast<float>(2 * random.uniform() - 1);
    return tensor;
}

std::span<float> span_of(const torch::Tensor& tensor) {
    return {tensor.data_ptr<float>(), static_cast<std::size_t>(tensor.numel())};
}

/// The largest distance to libtorch's parameters, relative to the largest of them, over 100 steps on the noisy
/// gradients of a quadratic.
template <class TorchOptimizer, class TorchOptions>
double distance(const TorchOptions& theirs, const OptimizerOptions& ours) {
    RandomStream random(1, Purpose::test);
    torch::Tensor parameter = random_tensor(random);
    const torch::Tensor curvature = random_tensor(random).abs();
    const torch::Tensor mine = parameter.clone();
    parameter.requires_grad_();
    TorchOptimizer reference({parameter}, theirs);
    const auto optimizer = make_optimizer(ours, kParameters);

    double worst = 0;
    for (int step = 0; step < 100; ++step) {
        const torch::Tensor gradient = curvature * parameter.detach() + 0.1 * random_tensor(random);
        parameter.mutable_grad() = gradient.clone();
        reference.step();
        optimizer->begin_update(kLearningRate);
        // In two ranges, as threads do it.
        const std::size_t half = kParameters / 2;
        for (const auto& [first, size] : {std::pair{std::size_t{0}, half}, std::pair{half, kParameters - half}}) {
            const auto range = span_of(mine).subspan(first, size);
            optimizer->apply(first, range, range, span_of(gradient).subspan(first, size));
        }
        const torch::Tensor expected = parameter.detach();
        worst = std::max(worst, ((mine - expected).abs().max() / expected.abs().max()).item<double>());
    }
    return worst;
}

double sgd_distance(double momentum, bool nesterov, double weight_decay) {
    return distance<torch::optim::SGD>(
        torch::optim::SGDOptions(kLearningRate).momentum(momentum).nesterov(nesterov).weight_decay(weight_decay),
        {.kind = "sgd", .momentum = momentum, .nesterov = nesterov, .weight_decay = weight_decay});
}

TEST(OptimTwinTest, Sgd) {
    EXPECT_LE(sgd_distance(0, false, 0), 1e-6);
    EXPECT_LE(sgd_distance(0, false, 0.1), 1e-6);
    EXPECT_LE(sgd_distance(0.9, false, 0), 1e-6);
    EXPECT_LE(sgd_distance(0.9, false, 0.01), 1e-6);
    EXPECT_LE(sgd_distance(0.9, true, 0), 1e-6);
    EXPECT_LE(sgd_distance(0.9, true, 0.01), 1e-6);
}

TEST(OptimTwinTest, Adam) {
    for (const double decay : {0.0, 0.1})
        EXPECT_LE(distance<torch::optim::Adam>(torch::optim::AdamOptions(kLearningRate).weight_decay(decay),
                                               {.kind = "adam", .weight_decay = decay}),
                  1e-6);
}

TEST(OptimTwinTest, AdamW) {
    for (const double decay : {0.0, 0.1})
        EXPECT_LE(distance<torch::optim::AdamW>(
                      torch::optim::AdamWOptions(kLearningRate).weight_decay(decay).betas({0.8, 0.99}).eps(1e-6),
                      {.kind = "adamw", .weight_decay = decay, .beta1 = 0.8, .beta2 = 0.99, .epsilon = 1e-6}),
                  1e-6);
}

} // namespace
} // namespace lategrad
