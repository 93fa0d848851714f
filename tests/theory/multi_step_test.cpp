/// The convergence theorem (docs/theory.md): inside its condition everything converges, and as fast as it promises;
/// outside, some does and some does not.
#include "lategrad/theory/multi_step.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>

#include "lategrad/theory/stability.h"
#include "tests/theory/draw.h"

namespace lategrad {
namespace {

void parabola(std::span<const double> w, std::span<double> gradient) {
    std::ranges::copy(w, gradient.begin());
}

TEST(Condition, AdmitsHalfTheRatioOfTheCurvatures) {
    EXPECT_DOUBLE_EQ(certified_late_share({1, 1}), 0.5);
    EXPECT_DOUBLE_EQ(certified_late_share({1, 1000}), 0.0005);
    EXPECT_DOUBLE_EQ(certified_late_share({1e-300, 1e308}), 0);
}

TEST(Condition, HoldsUpToItsBoundsAndNoFurther) {
    // Decimals whose product is off by a rounding: 0.003 + 0.002 against 0.05·0.1.
    const Condition at_both{check_condition({.fresh = 0.1, .late = {0.003, 0.002}}, {1, 10})};
    EXPECT_TRUE(at_both.holds());
    EXPECT_DOUBLE_EQ(at_both.fresh_max, 0.1);
    EXPECT_DOUBLE_EQ(at_both.late_max, 0.005);
    EXPECT_EQ(at_both.late_left(), 0);
    EXPECT_TRUE(check_condition({.fresh = 0.001, .late = {5e-7}}, {1, 1000}).holds());

    const Condition too_late = check_condition({.fresh = 0.1, .late = {0.003, 0, 0.003}}, {1, 10});
    EXPECT_TRUE(too_late.fresh_holds);
    EXPECT_FALSE(too_late.late_holds);
    EXPECT_NEAR(too_late.late_left(), -0.001, 1e-15);
    EXPECT_FALSE(check_condition({.fresh = 0.1001}, {1, 10}).fresh_holds);
    EXPECT_FALSE(check_condition({.fresh = 0}, {1, 10}).holds()) << "c > 0";
    EXPECT_NEAR(check_condition({.fresh = 0.05, .late = {0.001}}, {1, 10}).late_left(), 0.0015, 1e-15);
}

TEST(Condition, PromisesAFactorPerWindow) {
    const StepSizes steps{.fresh = 0.1, .late = {0.001, 0, 0.002}}; // k = 4
    const double factor = 1 - 0.1 + 10 * 0.003;
    EXPECT_EQ(distance_bound(steps, {1, 10}, 0), 1);
    EXPECT_DOUBLE_EQ(distance_bound(steps, {1, 10}, 1), factor);
    EXPECT_DOUBLE_EQ(distance_bound(steps, {1, 10}, 4), factor);
    EXPECT_DOUBLE_EQ(distance_bound(steps, {1, 10}, 5), factor * factor);
}

// With f(w) = w²/2, y = (0.5, 0, 0.25) and w_0 = 1:
//   w_1 = 1 − 0.5          w_2 = 0.5 − 0.25                 nothing is two updates late yet
//   w_3 = 0.25 − 0.125 − 0.25·w_0 = −0.125                  w_4 = −0.125 + 0.0625 − 0.25·w_1 = −0.1875
TEST(MultiStepGradient, ReachesTheNumbersWorkedOut) {
    MultiStepGradient method({1.0}, 3);
    for (const double expected : {0.5, 0.25, -0.125, -0.1875}) {
        method.update({.fresh = 0.5, .late = {0, 0.25}}, parabola);
        EXPECT_DOUBLE_EQ(method.parameters()[0], expected);
    }
    EXPECT_EQ(method.updates(), 4u);
}

TEST(MultiStepGradient, AsksOnlyForTheGradientsItUses) {
    MultiStepGradient method({1.0}, 2);
    std::vector<double> asked;
    const auto gradient = [&](std::span<const double> w, std::span<double> out) {
        asked.push_back(w[0]);
        out[0] = 1;
    };
    method.update({.fresh = 1, .late = {0, 1}}, gradient);
    method.update({.fresh = 1, .late = {0, 1}}, gradient);
    method.update({.fresh = 1, .late = {0, 1}}, gradient);
    EXPECT_EQ(asked, (std::vector<double>{1, 0, -1, 1}));
}

/// Steps that use all of the condition: α in [c, 1/b], and late ones of the sum (a/2b)·α, all of them anew.
StepSizes draw_steps(RandomStream& random, Curvature curvature, double c, std::size_t k) {
    StepSizes steps{.fresh = between(random, c, 1 / curvature.b)};
    if (k > 1) steps.late = parts_of(random, certified_late_share(curvature) * steps.fresh, k - 1);
    return steps;
}

struct Drawn {
    RandomStream random;
    Curvature curvature;
    double c;
    std::size_t k;

    /// ‖w_t‖ <= this · ‖w_0‖, with the rounding of t updates.
    double bound(std::uint64_t t) const {
        return std::pow(1 - c * curvature.a / 2, std::ceil(static_cast<double>(t) / static_cast<double>(k))) + 1e-12;
    }
};

Drawn draw_problem() {
    RandomStream random(*rc::gen::arbitrary<std::uint64_t>(), Purpose::theory);
    const double b = std::exp(between(random, -5, 5));
    const double a = b / between(random, 1, 20);
    return {.random = random,
            .curvature = {a, b},
            .c = between(random, 0.3, 1) / b,
            .k = *rc::gen::inRange<std::size_t>(1, 7)};
}

// Every gradient has a curvature of its own in [a, b], as those of a function in one dimension may.
RC_GTEST_PROP(Theorem, ConvergesInOneDimension, ()) {
    Drawn drawn = draw_problem();
    MultiStepGradient method({1.0}, drawn.k - 1);
    while (drawn.bound(method.updates()) > 1e-3) {
        method.update(draw_steps(drawn.random, drawn.curvature, drawn.c, drawn.k), [&](auto w, auto gradient) {
            // The ends of the interval more often than not: the worst is found there.
            const double curvature = drawn.random.below(3) == 0 ? drawn.curvature.a
                                     : drawn.random.below(2) == 0
                                         ? drawn.curvature.b
                                         : between(drawn.random, drawn.curvature.a, drawn.curvature.b);
            gradient[0] = curvature * w[0];
        });
        RC_ASSERT(std::abs(method.parameters()[0]) <= drawn.bound(method.updates()));
    }
}

// A function that is not quadratic: f'(w) = λ(w)·w with λ in [a, b] everywhere.
RC_GTEST_PROP(Theorem, ConvergesOnAFunctionWhoseCurvatureVaries, ()) {
    Drawn drawn = draw_problem();
    const auto [a, b] = drawn.curvature;
    MultiStepGradient method({between(drawn.random, -100, 100)}, drawn.k - 1);
    const double start = std::abs(method.parameters()[0]);
    while (drawn.bound(method.updates()) > 1e-3) {
        method.update(draw_steps(drawn.random, drawn.curvature, drawn.c, drawn.k), [&](auto w, auto gradient) {
            gradient[0] = (a + (b - a) * (1 + std::cos(3 * w[0])) / 2) * w[0];
        });
        RC_ASSERT(std::abs(method.parameters()[0]) <= drawn.bound(method.updates()) * start);
    }
}

/// H·w for a symmetric H with these eigenvalues, its eigenvectors those of a product of two reflections.
void multiply(std::span<const double> eigenvalues, const std::vector<double>& u, const std::vector<double>& v,
              std::span<const double> w, std::span<double> out) {
    const auto reflect = [](std::span<double> x, const std::vector<double>& normal) {
        double dot = 0, square = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
            dot += x[i] * normal[i];
            square += normal[i] * normal[i];
        }
        for (std::size_t i = 0; i < x.size(); ++i) x[i] -= 2 * dot / square * normal[i];
    };
    std::ranges::copy(w, out.begin());
    reflect(out, u);
    reflect(out, v);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] *= eigenvalues[i];
    reflect(out, v);
    reflect(out, u);
}

// Every gradient has a Hessian of its own, with all its eigenvalues in [a, b].
RC_GTEST_PROP(Theorem, ConvergesInManyDimensions, ()) {
    Drawn drawn = draw_problem();
    RandomStream& random = drawn.random;
    const auto dimensions = *rc::gen::inRange<std::size_t>(2, 6);
    const auto draw = [&](double low, double high) {
        std::vector<double> values(dimensions);
        for (double& value : values) value = between(random, low, high);
        return values;
    };
    const auto start = draw(-1, 1);
    MultiStepGradient method(start, drawn.k - 1);
    while (drawn.bound(method.updates()) > 1e-2) {
        method.update(draw_steps(random, drawn.curvature, drawn.c, drawn.k), [&](auto w, auto gradient) {
            auto eigenvalues = draw(drawn.curvature.a, drawn.curvature.b);
            eigenvalues.front() = drawn.curvature.a;
            eigenvalues.back() = drawn.curvature.b;
            multiply(eigenvalues, draw(-1, 1), draw(-1, 1), w, gradient);
        });
        RC_ASSERT(norm(method.parameters()) <= drawn.bound(method.updates()) * norm(start));
    }
}

// The mean over all paths of the noise, and not a sample of them: on a quadratic with gradients that are λ·w on average
// the expectation of w_t is the w_t of the true gradients.
TEST(Theorem, ExpectationFollowsTheTrueGradientsExactly) {
    const StepSizes steps{.fresh = 0.3, .late = {0.02, 0.05}};
    constexpr double kCurvature = 1.5;
    constexpr std::uint64_t kUpdates = 5;
    constexpr int kDraws = 5 + 4 + 3; // fresh, one update late, two updates late
    MultiStepGradient mean({1.0}, 2);
    for (std::uint64_t t = 0; t < kUpdates; ++t) {
        mean.update(steps, [](auto w, auto gradient) { gradient[0] = kCurvature * w[0]; });
    }
    double sum = 0, least = 1, most = 0;
    for (unsigned path = 0; path < 1u << kDraws; ++path) {
        unsigned bits = path;
        MultiStepGradient noisy({1.0}, 2);
        for (std::uint64_t t = 0; t < kUpdates; ++t) {
            noisy.update(steps, [&](auto w, auto gradient) {
                const double sign = bits & 1 ? 1 : -1;
                bits >>= 1;
                gradient[0] = (kCurvature + 0.8 * sign) * w[0] + 0.5 * sign; // in the curvature and beside it
            });
        }
        sum += noisy.parameters()[0];
        least = std::min(least, noisy.parameters()[0]);
        most = std::max(most, noisy.parameters()[0]);
    }
    EXPECT_GT(most - least, 0.1) << "there is noise";
    EXPECT_NEAR(sum / (1 << kDraws), mean.parameters()[0], 1e-13);
}

// Over many seeds and far into the run: within the standard error of the mean, the expectation is at the minimiser.
TEST(Theorem, ConvergesInExpectationWithStochasticGradients) {
    const Curvature curvature{1, 10};
    const StepSizes steps{.fresh = 0.1, .late = {0.002, 0, 0.003}};
    ASSERT_TRUE(check_condition(steps, curvature).holds());
    constexpr int kSeeds = 400;
    const std::vector<double> eigenvalues = {1, 4, 10};
    std::vector<double> sum(3), squares(3);
    for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
        RandomStream random(seed, Purpose::theory);
        MultiStepGradient method({5, 5, 5}, steps.late.size());
        while (method.updates() < 200) {
            method.update(steps, [&](auto w, auto gradient) {
                for (std::size_t i = 0; i < 3; ++i)
                    gradient[i] = between(random, 0, 2) * eigenvalues[i] * w[i] + between(random, -3, 3);
            });
        }
        for (std::size_t i = 0; i < 3; ++i) {
            sum[i] += method.parameters()[i];
            squares[i] += method.parameters()[i] * method.parameters()[i];
        }
    }
    for (std::size_t i = 0; i < 3; ++i) {
        const double mean = sum[i] / kSeeds;
        const double standard_error = std::sqrt((squares[i] / kSeeds - mean * mean) / kSeeds);
        EXPECT_LT(standard_error, 0.1);
        EXPECT_LT(std::abs(mean), 4 * standard_error) << eigenvalues[i];
    }
}

/// |w_t| after so many updates of f(w) = λ/2·w² from w_0 = 1.
double run(const StepSizes& steps, double curvature, std::uint64_t updates) {
    MultiStepGradient method({1.0}, steps.late.size());
    double largest = 0; // of the last ones: one alone may be small by chance
    while (method.updates() < updates) {
        method.update(steps, [&](auto w, auto gradient) { gradient[0] = curvature * w[0]; });
        if (method.updates() + 20 > updates) largest = std::max(largest, std::abs(method.parameters()[0]));
    }
    return largest;
}

TEST(OutsideTheCondition, AShareAboveOneDiverges) {
    const Curvature curvature{1, 10};
    for (const std::size_t delay : {1, 2, 3, 7}) {
        const StepSizes steps = one_late(0.1, 0.12, delay);
        EXPECT_FALSE(check_condition(steps, curvature).late_holds);
        EXPECT_GT(worst_spectral_radius(steps, curvature).radius, 1) << delay;
        EXPECT_GT(run(steps, curvature.b, 1000), 1e6) << delay;
    }
}

TEST(OutsideTheCondition, ALongDelayAtALongStepDiverges) {
    // More than half of the mass late, αλ = 1.5: the same steps, one update late and three.
    EXPECT_LT(spectral_radius(delayed_steps(1.5, 0.55, 1), 1), 1);
    EXPECT_LT(run(delayed_steps(1.5, 0.55, 1), 1, 1000), 1e-6);
    EXPECT_GT(spectral_radius(delayed_steps(1.5, 0.55, 3), 1), 1);
    EXPECT_GT(run(delayed_steps(1.5, 0.55, 3), 1, 2000), 1e6);
}

TEST(OutsideTheCondition, MuchStillConverges) {
    // At b/a = 1000 the condition admits 0.05 %; here it is 90 %, and the worst curvature is the least one.
    const Curvature curvature{1, 1000};
    const StepSizes steps = one_late(0.001, 0.0009, 5);
    EXPECT_FALSE(check_condition(steps, curvature).late_holds);
    const WorstCurvature worst = worst_spectral_radius(steps, curvature);
    EXPECT_LT(worst.radius, 1);
    for (const double at : {curvature.a, 10.0, 100.0, curvature.b}) EXPECT_LT(run(steps, at, 20'000), 1e-6) << at;
}

} // namespace
} // namespace lategrad
