#include "lategrad/codec/sparse.h"

#include <gtest/gtest.h>

#include <numeric>

#include "lategrad/codec/dgc.h"
#include "lategrad/codec/select.h"
#include "tests/codec/coding.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/simd_targets.h"

namespace lategrad {
namespace {

/// Where the k largest magnitudes are, by sorting: of equal ones the first, and no zeros.
std::vector<std::size_t> slow_largest(std::span<const float> values, std::size_t k) {
    std::vector<std::size_t> order(values.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order,
                             [&](std::size_t a, std::size_t b) { return std::abs(values[a]) > std::abs(values[b]); });
    order.resize(k);
    std::erase_if(order, [&](std::size_t i) { return values[i] == 0; });
    std::ranges::sort(order);
    return order;
}

/// Deep Gradient Compression (Lin et al. 2018, algorithm 4) of one worker, readable; without momentum and clipping it
/// is top-k with error feedback.
class SlowDgc {
  public:
    SlowDgc(std::size_t elements, float momentum, double norm_max)
        : momentum_(momentum),
          norm_max_(norm_max),
          velocity_(elements),
          residual_(elements) {}

    /// What is sent.
    std::vector<float> step(std::span<const float> grad, std::size_t k, float residual_scale = 1) {
        const double norm = std::sqrt(squared_norm(grad));
        const float clip = norm_max_ > 0 && norm > norm_max_ ? static_cast<float>(norm_max_ / norm) : 1;
        for (std::size_t i = 0; i < grad.size(); ++i) {
            const float clipped = clip * grad[i];
            const float kept = momentum_ * velocity_[i];
            velocity_[i] = kept + clipped; // momentum correction
            const float scaled = residual_scale * residual_[i];
            residual_[i] = velocity_[i] + scaled;
        }
        std::vector<float> sent(grad.size());
        for (const std::size_t i : slow_largest(residual_, k)) {
            std::swap(sent[i], residual_[i]);
            velocity_[i] = 0; // momentum factor masking
        }
        return sent;
    }
    std::span<const float> residual() const { return residual_; }

  private:
    float momentum_;
    double norm_max_;
    std::vector<float> velocity_;
    std::vector<float> residual_;
};

void expect_selects_as_sorting(std::span<const float> values, std::size_t k, const char* what) {
    Selector selector;
    std::vector<float> residual(values.size());
    ASSERT_TRUE(selector.join({.grad = values}, residual, k));
    const auto slow = slow_largest(values, k);
    ASSERT_TRUE(std::ranges::equal(selector.places(), slow)) << what << ' ' << values.size() << ' ' << k;
    ASSERT_EQ(residual, std::vector<float>(values.begin(), values.end()));
}

TEST(Selector, FindsTheLargestAsSortingDoes) {
    on_every_simd_target([&](const char*) {
        for (const std::size_t size : {1u, 7u, 100u, 4097u, 70'001u}) {
            RandomStream stream(size, Purpose::test);
            const auto normal = gaussian(stream, size);
            std::vector<float> few_levels(size);
            for (float& value : few_levels) value = static_cast<float>(stream.below(5)) - 2; // ties and zeros
            std::vector<float> ascending(size);
            std::iota(ascending.begin(), ascending.end(), 0.0F);
            for (const std::size_t k : {std::size_t{1}, size / 100, size / 3, size}) {
                if (k == 0) continue;
                expect_selects_as_sorting(normal, k, "normal");
                expect_selects_as_sorting(few_levels, k, "few levels");
                expect_selects_as_sorting(std::vector<float>(size), k, "zeros");
                expect_selects_as_sorting(std::vector<float>(size, -0.0F), k, "negative zeros");
                expect_selects_as_sorting(std::vector<float>(size, -3), k, "constant");
                expect_selects_as_sorting(ascending, k, "ascending");
            }
        }
    });
}

TEST(Selector, MostlyZerosAreNoEntries) {
    // Fewer than k that are not zero, as many, and more; where the sample finds some, all or none of them.
    constexpr std::size_t kSize = 300'000;
    for (const std::size_t period : {10u, 29u, 100u, 1000u, 100'000u}) {
        for (const std::size_t phase : {0u, 5u}) {
            std::vector<float> values(kSize, -0.0F);
            for (std::size_t i = phase; i < kSize; i += period) values[i] = gaussian(i, 1)[0];
            for (const std::size_t k : {1u, 300u, 3000u, 30'000u, 299'999u}) {
                expect_selects_as_sorting(values, k, "mostly zeros");
            }
        }
    }
}

TEST(Selector, ASampleUnlikeTheRestMisleadsNobody) {
    constexpr std::size_t kSize = 200'000;
    for (const std::size_t period : {48u, 16u, 97u}) {
        for (const bool inside : {false, true}) {
            // Large where a sample of runs that are evenly apart looks, or everywhere else.
            auto values = gaussian(period, kSize);
            for (std::size_t i = 0; i < kSize; ++i) {
                if ((i % period < 16) == inside) values[i] *= 1000;
            }
            for (const std::size_t k : {200u, 2000u, 150'000u}) expect_selects_as_sorting(values, k, "periodic");
        }
    }
    std::vector<float> one(kSize);
    one[kSize - 1] = 1;
    expect_selects_as_sorting(one, 2000, "one");
}

TEST(TopK, SendsAsTheSlowTwin) {
    for (const std::size_t size : {9u, 5000u, 70'000u}) {
        Coding coding("topk:0.02", size);
        const auto encoder = coding.encoder();
        SlowDgc slow(size, 0, 0);
        for (std::uint64_t step = 0; step < 6; ++step) {
            const auto grad = gaussian(step, size);
            const float scale = step % 2 == 0 ? 1 : 0.5F;
            const auto sent = coding.decode(coding.encode(*encoder, grad, step, scale));
            ASSERT_EQ(sent, slow.step(grad, SparseRule::count(0.02, size), scale)) << size << ' ' << step;
            ASSERT_TRUE(std::ranges::equal(encoder->residual(), slow.residual()));
        }
    }
}

TEST(TopK, ContractsAsPublished) {
    // ‖C(x) − x‖² ≤ (1 − k/d)·‖x‖² (Stich et al. 2018, definition 2.1); equal where all are as large.
    constexpr std::size_t kSize = 5000;
    for (const double share : {0.01, 0.3, 1.0}) {
        Coding coding("topk:" + std::to_string(share), kSize);
        const double delta = static_cast<double>(SparseRule::count(share, kSize)) / kSize;
        for (const auto& x : {gaussian(1, kSize), std::vector<float>(kSize, -2)}) {
            const double error = squared_distance(coding.decode(coding.encode(x)), x);
            EXPECT_LE(error, (1 - delta) * squared_norm(x) * (1 + 1e-9));
        }
    }
}

TEST(TopK, SendsAtLeastOne) {
    EXPECT_EQ(SparseRule::count(0.01, 7), 1u);
    EXPECT_EQ(SparseRule::count(0.01, 1000), 10u);
    EXPECT_EQ(SparseRule::count(1, 7), 7u);
    Coding coding("topk:0.01", 7);
    EXPECT_EQ(coding.decode(coding.encode(std::vector<float>{1, 2, -9, 4, 5, 6, 7})),
              (std::vector<float>{0, 0, -9, 0, 0, 0, 0}));
}

TEST(Dgc, SendsAsTheSlowTwin) {
    constexpr std::size_t kSize = 6000;
    CodecSetup setup = setup_of(kSize, 2);
    setup.workers = 4;
    setup.momentum = 0.9;
    setup.steps_per_epoch = 2;
    for (const char* spec : {"dgc:0.001", "dgc:0.001,100"}) {
        Coding coding(spec, setup);
        const auto encoder = coding.encoder();
        // The norm is about 77: 100/√4 clips all, and what has no clip none.
        SlowDgc slow(kSize, 0.9F, std::string_view(spec).ends_with(",100") ? 50 : 0);
        constexpr std::array<double, 6> kShares{0.25, 0.0625, 0.015625, 0.00390625, 0.001, 0.001}; // warm-up, by epoch
        for (std::uint64_t step = 0; step < 12; ++step) {
            const auto grad = gaussian(step, kSize + 2);
            const Buffer payload = coding.encode(*encoder, grad, step);
            const auto k = SparseRule::count(kShares[step / 2], kSize);
            const auto expected = slow.step(std::span(grad).first(kSize), k);
            ASSERT_EQ(coding.decode(payload), expected) << spec << ' ' << step;
            ASSERT_TRUE(std::ranges::equal(encoder->residual(), slow.residual())) << spec << ' ' << step;
        }
    }
}

TEST(Dgc, WarmsUpNoLowerThanItsShare) {
    EXPECT_EQ(DgcRule(0.1, 0).share_at(0), 0.25);
    EXPECT_EQ(DgcRule(0.1, 0).share_at(1.5), 0.1);
    EXPECT_EQ(DgcRule(0.1, 0).share_at(100), 0.1);
    EXPECT_EQ(DgcRule(0.5, 0).share_at(0), 0.5);
}

TEST(Dgc, AGradientThatIsNotFiniteLeavesTheVelocityToo) {
    constexpr std::size_t kSize = 9000;
    CodecSetup setup = setup_of(kSize);
    setup.momentum = 0.9;
    Coding coding("dgc:0.01", setup), undisturbed("dgc:0.01", setup);
    const auto encoder = coding.encoder(), other = undisturbed.encoder();
    for (std::uint64_t step = 0; step < 4; ++step) {
        const auto grad = gaussian(step, kSize);
        auto bad = grad;
        bad[step % 2 == 0 ? 100 : 8900] = std::numeric_limits<float>::quiet_NaN();
        ASSERT_FALSE(coding.encode(*encoder, bad, step));
        coding.encode(*encoder, grad, step);
        undisturbed.encode(*other, grad, step);
    }
    EXPECT_LT(squared_distance(encoder->residual(), other->residual()), 1e-6 * squared_norm(other->residual()));
}

TEST(Dgc, ASumThatOverflowsLeavesTheVelocityToo) {
    constexpr std::size_t kSize = 9000, kLarge = 500;
    CodecSetup setup = setup_of(kSize);
    setup.momentum = 0.9;
    Coding coding("dgc:0.01", setup), undisturbed("dgc:0.01", setup);
    const auto encoder = coding.encoder(), other = undisturbed.encoder();
    auto first = gaussian(0, kSize);
    std::fill(first.end() - kLarge, first.end(), 100.0F); // more than are sent, in the last block
    coding.encode(*encoder, first, 5);                    // after the warm-up
    undisturbed.encode(*other, first, 5);
    ASSERT_FALSE(coding.encode(*encoder, gaussian(9, kSize), 6, 1e37F)); // times what is left of the large ones
    for (std::uint64_t step = 6; step < 9; ++step) {
        const auto grad = gaussian(step, kSize);
        coding.encode(*encoder, grad, step);
        undisturbed.encode(*other, grad, step);
    }
    for (std::size_t i = 0; i < kSize - kLarge; ++i) {
        ASSERT_NEAR(encoder->residual()[i], other->residual()[i], 1e-4) << i;
    }
}

TEST(RandK, SendsValuesAsTheyAreAndNoPlaces) {
    constexpr std::size_t kSize = 50'000;
    Coding coding("randk:0.05", kSize);
    const auto grad = gaussian(1, kSize);
    const auto encoder = coding.encoder();
    const Buffer payload = coding.encode(*encoder, grad, 3);
    EXPECT_LT(payload.bytes(), 0.05 * kSize * sizeof(float) * 1.05);
    const auto decoded = coding.decode(payload);
    std::size_t sent = 0;
    for (std::size_t i = 0; i < kSize; ++i) {
        ASSERT_TRUE(decoded[i] == 0 || decoded[i] == grad[i]);
        ASSERT_EQ(encoder->residual()[i], decoded[i] == 0 ? grad[i] : 0);
        sent += decoded[i] != 0;
    }
    EXPECT_NEAR(static_cast<double>(sent), 0.05 * kSize, 0.001 * kSize);
    EXPECT_NE(coding.decode(coding.encode(grad, 4)), decoded); // other places at the next step
    EXPECT_NE(coding.decode(coding.encode(*coding.encoder(1), grad, 3)), decoded);
}

TEST(RandK, EveryEntryHasTheSameChanceAndItContractsInExpectation) {
    // E‖C(x) − x‖² = (1 − R)·‖x‖² (Stich et al. 2018, definition 2.1).
    constexpr std::size_t kSize = 4110; // a whole chunk, and one whose share is less than one entry
    constexpr int kDraws = 2000;
    constexpr double kShare = 0.05;
    Coding coding("randk:0.05", kSize);
    const auto x = gaussian(1, kSize);
    std::vector<int> sent(kSize);
    double error = 0;
    for (int draw = 0; draw < kDraws; ++draw) {
        const auto decoded = coding.decode(coding.encode(x, static_cast<std::uint64_t>(draw)));
        error += squared_distance(decoded, x) / kDraws;
        for (std::size_t i = 0; i < kSize; ++i) sent[i] += decoded[i] != 0;
    }
    EXPECT_NEAR(error / squared_norm(x), 1 - kShare, 0.002);
    const double deviation = std::sqrt(kDraws * kShare * (1 - kShare));
    for (std::size_t i = 0; i < kSize; ++i) ASSERT_NEAR(sent[i], kDraws * kShare, 5 * deviation) << i;
}

} // namespace
} // namespace lategrad
