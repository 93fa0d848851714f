/// The true limits of a delayed iteration: two ways of finding them against each other, and against what is known.
#include "lategrad/theory/stability.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "tests/theory/draw.h"

namespace lategrad {
namespace {

TEST(StableStep, OneUpdateLateIsTheKnownFormula) {
    EXPECT_NEAR(stable_step(0, 1), 2, 1e-12);
    EXPECT_NEAR(stable_step(0.25, 1), 4, 1e-9);
    for (int i = 1; i <= 100; ++i) {
        const double p = i / 100.0;
        EXPECT_NEAR(stable_step(p, 1), p < 0.5 ? std::min(1 / p, 2 / (1 - 2 * p)) : 1 / p, 1e-9) << p;
    }
}

TEST(StableStep, NothingFreshIsTheKnownFormula) {
    // Levin and May 1976, "A note on difference-delay equations": w_{t+1} = w_t − s·w_{t−d} is stable for
    // 0 < s < 2·cos(d·π/(2d + 1)).
    for (const std::size_t d : {1, 2, 3, 4, 10, 64}) {
        const auto delay = static_cast<double>(d);
        EXPECT_NEAR(stable_step(1, d), 2 * std::cos(delay * std::numbers::pi / (2 * delay + 1)), 1e-9) << d;
    }
}

TEST(StableStep, AnEvenDelayGainsNothingOverTwo) {
    for (const std::size_t delay : {2, 4, 6}) {
        for (const double p : {0.0, 0.05, 0.1, 0.25, 0.4, 0.5}) EXPECT_NEAR(stable_step(p, delay), 2, 1e-9) << p;
        EXPECT_LT(stable_step(0.55, delay), 2);
    }
}

TEST(StableStep, AnOddDelayGainsLessTheLongerItIs) {
    for (const double p : {0.05, 0.1, 0.2, 0.3, 0.4}) {
        for (const std::size_t delay : {1, 3, 5}) {
            EXPECT_GT(stable_step(p, delay), 2);
            EXPECT_LE(stable_step(p, delay + 2), stable_step(p, delay) + 1e-9);
            EXPECT_LE(stable_step(p, delay), 2 / (1 - 2 * p) + 1e-9) << "a root at −1";
        }
    }
}

TEST(StableStep, AnOddDelayGainsMostWhereTwoRootsMeetAtMinusOne) {
    for (const std::size_t delay : {1, 3, 5, 7}) {
        const auto d = static_cast<double>(delay);
        const double p = 1 / (2 * (d + 1));
        EXPECT_NEAR(stable_step(p, delay), 2 * (d + 1) / d, 1e-6) << delay;
        EXPECT_LT(stable_step(p - 0.01, delay), stable_step(p, delay));
        EXPECT_LT(stable_step(p + 0.01, delay), stable_step(p, delay));
    }
}

TEST(StableStep, IsWhereTheSpectralRadiusPassesOne) {
    for (const std::size_t delay : {1, 2, 3, 4, 7, 16}) {
        for (int i = 0; i <= 20; ++i) {
            const double p = i / 20.0;
            const double limit = stable_step(p, delay);
            EXPECT_LT(spectral_radius(delayed_steps(limit * 0.9999, p, delay), 1), 1) << p << ' ' << delay;
            EXPECT_GT(spectral_radius(delayed_steps(limit * 1.0001, p, delay), 1), 1) << p << ' ' << delay;
        }
    }
}

StepSizes draw_steps() {
    RandomStream random(*rc::gen::arbitrary<std::uint64_t>(), Purpose::theory);
    const auto delay_max = *rc::gen::inRange<std::size_t>(0, 8);
    StepSizes steps{.fresh = std::exp(between(random, -3, 3))};
    for (std::size_t i = 0; i < delay_max; ++i) {
        steps.late.push_back(random.below(3) == 0 ? 0 : std::exp(between(random, -5, 3)));
    }
    return steps;
}

// The boundary locus against the companion matrix.
RC_GTEST_PROP(CurvatureLimit, IsWhereTheSpectralRadiusPassesOne, ()) {
    const StepSizes steps = draw_steps();
    const double limit = curvature_limit(steps);
    RC_ASSERT(spectral_radius(steps, limit * 1.0001) > 1);
    for (const double part : {0.9999, 0.9, 0.5, 0.1, 0.01}) RC_ASSERT(spectral_radius(steps, limit * part) < 1);
}

TEST(CurvatureLimit, HasTheUnitOfTheSteps) {
    const StepSizes steps = one_late(3, 1, 1); // total 4, a quarter of it late
    EXPECT_NEAR(curvature_limit(steps), 1, 1e-9);
    const double tiny = curvature_limit(one_late(3e200, 1e200, 1));
    EXPECT_NEAR(tiny * 1e200, 1, 1e-9);
}

TEST(SpectralRadius, IsTheHeavyBallsWhereOneUpdateIsLate) {
    // z² − (1 + μ − αλ)·z + μ: complex roots have the absolute value √μ.
    const double alpha = 1.5, p = 0.4;
    EXPECT_NEAR(spectral_radius(delayed_steps(alpha, p, 1), 1), std::sqrt(equivalent_momentum(alpha, 1, p)), 1e-12);
}

TEST(SpectralRadius, KnowsWhatIsBeyondADouble) {
    EXPECT_TRUE(std::isinf(spectral_radius({.fresh = 1e300}, 1e300)));
}

TEST(WorstSpectralRadius, IsAtAnEndWithoutLateGradients) {
    const WorstCurvature slow = worst_spectral_radius({.fresh = 0.1}, {1, 10});
    EXPECT_NEAR(slow.radius, 0.9, 1e-12);
    EXPECT_EQ(slow.at, 1);
    const WorstCurvature fast = worst_spectral_radius({.fresh = 0.25}, {1, 10});
    EXPECT_NEAR(fast.radius, 1.5, 1e-12);
    EXPECT_EQ(fast.at, 10);
}

TEST(WorstSpectralRadius, IsFoundBetweenTheEnds) {
    const StepSizes steps = one_late(0.1, 0.02, 6);
    const Curvature curvature{2, 10};
    const WorstCurvature worst = worst_spectral_radius(steps, curvature);
    for (int i = 0; i <= 1000; ++i) EXPECT_LE(spectral_radius(steps, 2 + i * 0.008), worst.radius + 1e-9);
    EXPECT_NEAR(spectral_radius(steps, worst.at), worst.radius, 1e-12);
    EXPECT_GT(worst.at, 5);
    EXPECT_LT(worst.at, 6);
}

// "Every share of late mass below one converges", α being the step of the fresh gradient and at most 1/b, and the share
// Σ late / α: |1 − αλ| + λ·Σ late < 1 keeps every root inside, whatever the delays.
RC_GTEST_PROP(LateShareOfTheFreshStep, BelowOneConvergesAtEveryDelay, ()) {
    RandomStream random(*rc::gen::arbitrary<std::uint64_t>(), Purpose::theory);
    StepSizes steps{.fresh = 1 - random.uniform() * random.uniform()};
    const double share = 1 - 0.5 * random.uniform() * random.uniform() - 1e-3;
    steps.late = parts_of(random, share * steps.fresh, *rc::gen::inRange<std::size_t>(1, 20));
    RC_ASSERT(spectral_radius(steps, 1) < 1);
}

TEST(LateShareOfTheFreshStep, AboveOneDivergesAtEveryDelay) {
    // The bound is sharp at αλ = 1, where z^{d+1} = −share.
    for (const std::size_t delay : {1, 2, 5, 20}) {
        EXPECT_LT(spectral_radius(one_late(1, 0.999, delay), 1), 1);
        EXPECT_NEAR(spectral_radius(one_late(1, 1.001, delay), 1),
                    std::pow(1.001, 1 / (static_cast<double>(delay) + 1)), 1e-9);
    }
}

// With the share taken of all the mass and α the sum of the steps, it is true of one update of delay alone.
TEST(LateShareOfAllTheMass, BelowOneConvergesOneUpdateLate) {
    for (const double p : {0.5, 0.9, 0.99, 0.999}) EXPECT_LT(spectral_radius(delayed_steps(1, p, 1), 1), 1) << p;
}

TEST(LateShareOfAllTheMass, BelowOneMayDivergeTwoUpdatesLate) {
    EXPECT_NEAR(spectral_radius(delayed_steps(1, 0.75, 2), 1), 1.024, 0.001);
    // At αλ = 1, z^d·(z − p) = −p meets the unit circle where |z − p| = p: z = e^{iπ/(d + 2)}, p = 1/(2·cos(π/(d +
    // 2))).
    for (const std::size_t delay : {2, 3, 5, 10, 50}) {
        const double limit = 1 / (2 * std::cos(std::numbers::pi / static_cast<double>(delay + 2)));
        EXPECT_LT(spectral_radius(delayed_steps(1, limit - 1e-4, delay), 1), 1) << delay;
        EXPECT_GT(spectral_radius(delayed_steps(1, limit + 1e-4, delay), 1), 1) << delay;
    }
}

TEST(LateShareOfAllTheMass, BelowOneHalfConvergesAtEveryDelay) {
    for (const std::size_t delay : {1, 2, 3, 10, 50}) {
        for (const double alpha : {0.1, 0.5, 1.0})
            EXPECT_LT(spectral_radius(delayed_steps(alpha, 0.499, delay), 1), 1) << delay;
    }
    EXPECT_GT(spectral_radius(delayed_steps(1, 0.51, 50), 1), 1);
}

TEST(LateScaleLimit, IsTheFactorAtWhichItNoLongerConverges) {
    EXPECT_NEAR(late_scale_limit(one_late(0.1, 0.09, 1), 10).value(), 1 / 0.9, 1e-9);
    EXPECT_NEAR(late_scale_limit(one_late(0.1, 0.11, 1), 10).value(), 1 / 1.1, 1e-9);
    EXPECT_TRUE(std::isinf(late_scale_limit({.fresh = 0.1, .late = {0, 0}}, 10).value()));
}

TEST(LateScaleLimit, StartsWhereLateStepsBeginToCount) {
    // From 1 on, this would be thousands of steps of a ratio.
    EXPECT_NEAR(late_scale_limit(one_late(0.1, 0.09e-200, 1), 10).value() / 1e200, 1 / 0.9, 1e-9);
}

TEST(LateScaleLimit, IsNoneWhereNothingHelps) {
    EXPECT_EQ(late_scale_limit({.fresh = 0.3}, 10), std::nullopt);
    EXPECT_EQ(late_scale_limit(one_late(0.5, 0.1, 2), 10), std::nullopt);
}

TEST(LateScaleLimit, FindsTheFactorsWithWhichLateGradientsHelp) {
    // α·b = 2.25 alone diverges; with a third of it one update late it is the heavy ball at s = 3 < 4.
    ASSERT_GT(spectral_radius({.fresh = 2.25}, 1), 1);
    EXPECT_NEAR(late_scale_limit(one_late(2.25, 0.75, 1), 1).value(), 1 / 0.75, 1e-9);
    EXPECT_NEAR(late_scale_limit(one_late(2.25, 75, 1), 1).value(), 1 / 75.0, 1e-9);
}

RC_GTEST_PROP(LateScaleLimit, IsWhereTheSpectralRadiusPassesOne, ()) {
    StepSizes steps = draw_steps();
    RC_PRE(steps.late_sum() > 0);
    const double b = 1.9 / steps.fresh * (*rc::gen::inRange(1, 100)) / 100.0;
    const double scale = late_scale_limit(steps, b).value();
    const auto worst = [&](double factor) {
        StepSizes scaled = steps;
        for (double& step : scaled.late) step *= factor;
        return worst_spectral_radius(scaled, {b * 1e-3, b}).radius;
    };
    RC_ASSERT(worst(scale * 0.999) < 1);
    RC_ASSERT(worst(scale * 1.001) > 1);
}

// Exactly one update late is the heavy ball, update by update.
TEST(EquivalentMomentum, GivesTheSameIterates) {
    const double alpha = 0.7, p = 0.35, curvature = 1.3;
    const double mu = equivalent_momentum(alpha, curvature, p);
    EXPECT_DOUBLE_EQ(mu, 0.7 * 0.35 * 1.3);
    MultiStepGradient late({1.0}, 1);
    const auto update = [&] {
        late.update(delayed_steps(alpha, p, 1), [&](auto w, auto gradient) { gradient[0] = curvature * w[0]; });
        return late.parameters()[0];
    };
    double before = 1, now = update();
    for (int t = 0; t < 100; ++t) {
        const double next = now - alpha * curvature * now + mu * (now - before);
        EXPECT_NEAR(update(), next, 1e-14);
        before = now;
        now = next;
    }
}

} // namespace
} // namespace lategrad
