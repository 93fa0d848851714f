#include "lategrad/sim/parallel_computation.h"

#include <gtest/gtest.h>

#include <chrono>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "lategrad/optim/optimizer.h"
#include "lategrad/sim/cluster.h"
#include "tests/data/numbered_data.h"

namespace lategrad {
namespace {

constexpr std::size_t kSize = 3;

/// The gradient of |w − x|²/2 over the batch, with every example's first feature as x.
class Parabola final : public GradientSource {
  public:
    explicit Parabola(double fails_below = -1) : fails_below_(fails_below) {}
    Loss compute(std::span<const float> params, std::span<float> grad, const Batch& batch) override {
        const std::size_t row = batch.features.size() / batch.examples;
        double x = 0;
        for (std::size_t i = 0; i < batch.examples; ++i) x += batch.features[i * row];
        x /= static_cast<double>(batch.examples);
        if (params[0] < fails_below_) throw std::runtime_error("out of paper");
        for (std::size_t i = 0; i < kSize; ++i) grad[i] = params[i] - static_cast<float>(x);
        return {.mean = x};
    }
    std::size_t trainable() const override { return kSize; }
    std::size_t size() const override { return kSize; }

  private:
    double fails_below_;
};

struct Trained {
    std::vector<float> parameters;
    std::vector<double> losses;
    std::vector<Version> evaluated;
    std::exception_ptr failure;
    Outcome outcome = Outcome::running;
};

Trained train(std::size_t threads, const char* policy, bool cancel_late = false, double fails_below = -1) {
    constexpr std::size_t kWorkers = 5;
    const auto data = std::make_shared<NumberedData>(100);
    const auto codec = make_codec("none", {.elements = kSize});
    const PublishCodec publish_codec("none", {.elements = kSize});
    const auto optimizer = make_optimizer({}, kSize);
    std::vector<std::unique_ptr<GradientSource>> sources;
    for (std::size_t i = 0; i < threads; ++i) sources.push_back(std::make_unique<Parabola>(fails_below));
    std::vector<std::uint32_t> all(100);
    std::iota(all.begin(), all.end(), 0U);
    const auto parts = std::make_shared<const Parts>(kWorkers, all);
    std::vector<Batcher> batchers(kWorkers, Batcher(data, parts, 4, 1));
    ThreadPool pool(1);
    Trained result;
    ParallelComputation computation(
        std::move(sources), std::move(batchers),
        [](const Snapshot& snapshot) {
            return Evaluation{.version = snapshot.version, .at = snapshot.at, .loss = snapshot.params.floats()[0]};
        },
        *codec, publish_codec, pool, PushCheck(*codec, kSize, false));
    BufferPool versions(std::size_t{1} << 20);
    Buffer initial = versions.lease(kSize * sizeof(float));
    std::ranges::fill(initial.floats(), 100.0F);
    ClusterOptions options;
    options.policy.parse_kind(policy);
    options.policy.wait_for = 3;
    options.policy.cancel_late = cancel_late;
    options.server.updates = 60;
    options.server.learning_rate = 0.1;
    options.server.eval_every = 7;
    options.server.trainable = options.server.size = kSize;
    options.examples.assign(kWorkers, 4);
    options.compute_time = [](WorkerId worker, Step step) {
        return Duration(100 + (worker.value() * 7919 + step.value() * 104'729) % 300);
    };
    options.evaluation_time = Duration(150);
    Cluster cluster(std::move(options), *codec, *optimizer, std::move(initial), versions, &computation,
                    [&](const RunEvent& event) {
                        if (const auto* arrive = std::get_if<ArriveEvent>(&event.body))
                            result.losses.push_back(arrive->loss);
                        if (const auto* evaluation = std::get_if<Evaluation>(&event.body))
                            result.evaluated.push_back(evaluation->version);
                    });
    EXPECT_TRUE(cluster.run());
    const auto floats = cluster.server().parameters().floats();
    result.parameters.assign(floats.begin(), floats.end());
    result.failure = cluster.failure();
    result.outcome = cluster.server().outcome();
    return result;
}

class Threads : public testing::TestWithParam<std::size_t> {};

TEST_P(Threads, DecideNothing) {
    for (const char* policy : {"sync", "reuse", "kbatch", "async"}) {
        const Trained one = train(1, policy);
        const Trained many = train(GetParam(), policy);
        EXPECT_EQ(one.parameters, many.parameters) << policy;
        EXPECT_EQ(one.losses, many.losses) << policy;
        EXPECT_EQ(one.evaluated, many.evaluated) << policy;
        EXPECT_EQ(many.evaluated.size(), 9u) << policy; // of 60 updates every seventh, and the last
        EXPECT_LT(many.parameters[0], 65) << policy;    // from 100 towards the mean, 49.5
    }
}

TEST_P(Threads, DecideNothingWhereGradientsAreGivenUp) {
    const Trained one = train(1, "backup", true);
    const Trained many = train(GetParam(), "backup", true);
    EXPECT_EQ(one.parameters, many.parameters);
    EXPECT_EQ(one.losses, many.losses);
}

TEST_P(Threads, EndTheRunWhereAComputationFails) {
    const Trained failed = train(GetParam(), "reuse", false, 90);
    ASSERT_TRUE(failed.failure);
    EXPECT_THROW(std::rethrow_exception(failed.failure), std::runtime_error);
    EXPECT_EQ(failed.outcome, Outcome::interrupted);
    EXPECT_GT(failed.losses.size(), 3u);
}

INSTANTIATE_TEST_SUITE_P(OneToFour, Threads, testing::Values(1, 2, 4));

} // namespace
} // namespace lategrad
