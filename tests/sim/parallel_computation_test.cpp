#include "lategrad/sim/parallel_computation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <stdexcept>
#include <string_view>

#include "lategrad/core/archive.h"
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

class Training {
  public:
    explicit Training(std::size_t threads, const char* policy, bool cancel_late = false, double fails_below = -1)
        : codec_(make_codec("none", {.elements = kSize})),
          optimizer_(make_optimizer({}, kSize)) {
        const auto data = std::make_shared<NumberedData>(100);
        std::vector<std::unique_ptr<GradientSource>> sources;
        for (std::size_t i = 0; i < threads; ++i) sources.push_back(std::make_unique<Parabola>(fails_below));
        std::vector<std::uint32_t> all(100);
        std::iota(all.begin(), all.end(), 0U);
        const auto parts = std::make_shared<const Parts>(kWorkers, all);
        computation_.emplace(
            std::move(sources), std::vector<Batcher>(kWorkers, Batcher(data, parts, 4, 1)),
            [](const Snapshot& snapshot) {
                return Evaluation{.version = snapshot.version, .at = snapshot.at, .loss = snapshot.params.floats()[0]};
            },
            *codec_, publish_codec_, pool_, PushCheck(*codec_, kSize, false));
        Buffer initial = versions_.lease(kSize * sizeof(float));
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
        cluster_.emplace(std::move(options), *codec_, *optimizer_, std::move(initial), versions_, &*computation_,
                         [this](const RunEvent& event) {
                             if (const auto* arrive = std::get_if<ArriveEvent>(&event.body))
                                 so_far_.losses.push_back(arrive->loss);
                             if (const auto* evaluation = std::get_if<Evaluation>(&event.body))
                                 so_far_.evaluated.push_back(evaluation->version);
                         });
    }

    Cluster& cluster() { return *cluster_; }
    void persist(Archive& archive) {
        archive.pools({&versions_});
        cluster_->persist(archive);
    }
    /// Of all that happened in this one.
    Trained end() {
        EXPECT_TRUE(cluster_->run());
        const auto floats = cluster_->server().parameters().floats();
        so_far_.parameters.assign(floats.begin(), floats.end());
        so_far_.failure = cluster_->failure();
        so_far_.outcome = cluster_->server().outcome();
        return so_far_;
    }

  private:
    static constexpr std::size_t kWorkers = 5;
    std::unique_ptr<Codec> codec_;
    PublishCodec publish_codec_{"none", {.elements = kSize}};
    std::unique_ptr<Optimizer> optimizer_;
    ThreadPool pool_{1};
    BufferPool versions_{std::size_t{1} << 20};
    Trained so_far_;
    std::optional<ParallelComputation> computation_;
    std::optional<Cluster> cluster_;
};

Trained train(std::size_t threads, const char* policy, bool cancel_late = false, double fails_below = -1) {
    return Training(threads, policy, cancel_late, fails_below).end();
}

/// What a checkpoint keeps of one, as it was when it was taken.
struct Kept {
    explicit Kept(Training& training) {
        ArchiveWriter writer;
        training.persist(writer);
        const auto captured = writer.finish();
        state = captured.state;
        for (const auto blob : captured.blobs()) blobs.insert(blobs.end(), blob.begin(), blob.end());
    }
    void restore(Training& training) const {
        BufferPool unnamed(std::size_t{1} << 20);
        ArchiveReader reader(state, blobs, unnamed);
        training.persist(reader);
        EXPECT_TRUE(reader.finish());
    }
    std::vector<std::byte> state, blobs;
};

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

/// Gradients and evaluations that were under way are computed again.
TEST_P(Threads, AndStopsDecideNothing) {
    for (const char* policy : {"sync", "reuse", "backup", "async"}) {
        const bool cancel_late = policy == std::string_view("backup");
        const Trained whole = train(1, policy, cancel_late);
        for (const std::size_t stop_after : {0, 1, 40, 41, 137, 300}) {
            Training stopped(GetParam(), policy, cancel_late);
            std::size_t steps = 0;
            while (steps < stop_after && stopped.cluster().step()) ++steps;
            const Kept kept(stopped);
            Training resumed(GetParam(), policy, cancel_late);
            kept.restore(resumed);
            const Trained rest = resumed.end();
            EXPECT_EQ(rest.parameters, whole.parameters) << policy << " after " << steps;
            const std::span losses(whole.losses);
            EXPECT_THAT(rest.losses, testing::ElementsAreArray(losses.last(rest.losses.size())));
            EXPECT_THAT(rest.evaluated,
                        testing::ElementsAreArray(std::span(whole.evaluated).last(rest.evaluated.size())));
            EXPECT_EQ(rest.outcome, Outcome::updates);
        }
    }
}

/// It may be this machine's fault, and go well where it is resumed.
TEST_P(Threads, KeepACheckpointWhereAComputationHasFailedThatNobodyHasAskedFor) {
    constexpr double kFailsBelow = 90;
    Training failing(GetParam(), "reuse", false, kFailsBelow);
    std::optional<Kept> kept;
    for (;;) {
        Kept before(failing);
        ASSERT_TRUE(failing.cluster().step());
        if (failing.cluster().failure()) break;
        kept.emplace(std::move(before));
    }
    Training resumed(GetParam(), "reuse");
    kept->restore(resumed);
    const Trained rest = resumed.end();
    EXPECT_FALSE(rest.failure);
    EXPECT_EQ(rest.parameters, train(1, "reuse").parameters);
}

INSTANTIATE_TEST_SUITE_P(OneToFour, Threads, testing::Values(1, 2, 4));

} // namespace
} // namespace lategrad
