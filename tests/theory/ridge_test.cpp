/// Ridge regression: the closed form, the eigenvalues' bounds, and the multi-step method on it.
#include "lategrad/theory/ridge.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "tests/theory/draw.h"

namespace lategrad {
namespace {

TEST(RidgeProblem, OneColumnByHand) {
    // f(w) = (0.5w − 1)² + (w − 3)² + 2w²: f'(w) = 2·(1.25w − 3.5) + 4w, w* = 7/6.5.
    const RidgeProblem problem(1, {0.5, 1}, {1, 3}, 2);
    EXPECT_NEAR(problem.minimiser()[0], 7 / 6.5, 1e-14);
    EXPECT_NEAR(problem.eigenvalues()[0], 6.5, 1e-14);
    std::vector<double> gradient(1);
    problem.gradient(std::vector{2.0}, gradient);
    EXPECT_NEAR(gradient[0], 2 * (2.5 - 3.5) + 8, 1e-14);
    EXPECT_EQ(problem.curvature_bounds().a, 4);
    EXPECT_EQ(problem.curvature_bounds().b, 8);
    EXPECT_EQ(problem.norm_divisor(), 1);
}

TEST(RidgeProblem, DividesByTheLongestRow) {
    const RidgeProblem problem(2, {3, 4, 0, 1}, {1, 2}, 1);
    EXPECT_DOUBLE_EQ(problem.norm_divisor(), 5);
    const RidgeProblem same(2, {0.6, 0.8, 0, 0.2}, {1, 2}, 1);
    for (std::size_t i = 0; i < 2; ++i) EXPECT_NEAR(problem.minimiser()[i], same.minimiser()[i], 1e-15);
}

TEST(RidgeProblem, ReachesTheEndsOfTheEigenvaluesBounds) {
    // The same row of norm 1 m times: 2m + 2η along it, 2η across.
    const RidgeProblem problem(2, {0.6, 0.8, 0.6, 0.8, 0.6, 0.8}, {1, 2, 3}, 0.5);
    EXPECT_NEAR(problem.eigenvalues()[0], 1, 1e-13);
    EXPECT_NEAR(problem.eigenvalues()[1], 7, 1e-13);
    EXPECT_NEAR(std::abs(problem.eigenvector(1)[0]), 0.6, 1e-13);
    EXPECT_NEAR(std::abs(problem.eigenvector(1)[1]), 0.8, 1e-13);
}

RC_GTEST_PROP(RidgeProblem, EigenvaluesAreWithinTheirBoundsAndTheGradientVanishesAtTheMinimiser, ()) {
    const auto rows = *rc::gen::inRange<std::size_t>(1, 30);
    const auto columns = *rc::gen::inRange<std::size_t>(1, 10);
    const double eta = *rc::gen::element(0.01, 1.0, 50.0);
    const auto problem = make_random_ridge(rows, columns, eta, *rc::gen::arbitrary<std::uint64_t>());
    const auto [a, b] = problem->curvature_bounds();
    for (const double eigenvalue : problem->eigenvalues())
        RC_ASSERT(a - 1e-12 * b <= eigenvalue && eigenvalue <= b * (1 + 1e-12));
    std::vector<double> gradient(columns);
    problem->gradient(problem->minimiser(), gradient);
    RC_ASSERT(norm(gradient) < 1e-11 * b);
    for (std::size_t i = 0; i < columns; ++i) {
        // H·u = λ·u, the Hessian read off as the difference of two gradients.
        std::vector<double> w(problem->minimiser().begin(), problem->minimiser().end());
        for (std::size_t j = 0; j < columns; ++j) w[j] += problem->eigenvector(i)[j];
        problem->gradient(w, gradient);
        for (std::size_t j = 0; j < columns; ++j)
            RC_ASSERT(std::abs(gradient[j] - problem->eigenvalues()[i] * problem->eigenvector(i)[j]) < 1e-10 * b);
    }
}

TEST(RidgeProblem, MinibatchesAreRightOnAverage) {
    const auto problem = make_random_ridge(20, 3, 1, 7);
    const std::vector<double> w = {1, -2, 0.5};
    std::vector<double> expected(3), drawn(3), sum(3), squares(3);
    problem->gradient(w, expected);
    RandomStream random(1, Purpose::theory);
    constexpr int kDraws = 20'000;
    for (int i = 0; i < kDraws; ++i) {
        problem->stochastic_gradient(w, 4, random, drawn);
        for (std::size_t j = 0; j < 3; ++j) {
            sum[j] += drawn[j];
            squares[j] += drawn[j] * drawn[j];
        }
    }
    for (std::size_t j = 0; j < 3; ++j) {
        const double mean = sum[j] / kDraws;
        const double standard_error = std::sqrt((squares[j] / kDraws - mean * mean) / kDraws);
        EXPECT_GT(standard_error, 0);
        EXPECT_NEAR(mean, expected[j], 4 * standard_error);
    }
}

class RidgeConvergence : public testing::TestWithParam<std::uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Seeds, RidgeConvergence, testing::Range<std::uint64_t>(1, 6));

TEST_P(RidgeConvergence, ReachesTheClosedFormInsideTheCondition) {
    const auto problem = make_random_ridge(20, 4, 2, GetParam());
    const Curvature curvature = problem->curvature_bounds();
    RandomStream random(GetParam(), Purpose::theory, {9});
    ConvergenceOptions options{.steps = {.fresh = 1 / curvature.b}, .iterations = 600, .batch = 4, .runs = 60};
    options.steps.late = parts_of(random, certified_late_share(curvature) * options.steps.fresh, 3);
    options.seed = GetParam();
    const auto points = run_to_minimiser(*problem, options);
    ASSERT_EQ(points.front().t, 0u);
    ASSERT_EQ(points.back().t, 600u);
    const double start = norm(problem->minimiser());
    for (const ConvergencePoint& point : points) {
        ASSERT_TRUE(point.bound);
        EXPECT_LE(point.deterministic, *point.bound + 1e-12) << point.t;
        // The mean follows the true gradients, and they obey the bound.
        EXPECT_LE(std::abs(point.mean - point.deterministic), 4 * point.standard_error + 1e-12) << point.t;
    }
    EXPECT_DOUBLE_EQ(points.front().deterministic, start);
    EXPECT_LT(points.back().deterministic, 1e-12 * start);
    EXPECT_LT(points.back().mean, 4 * points.back().standard_error);
    EXPECT_LT(points.back().mean, 0.2 * start);
    EXPECT_GT(points.back().of_one_run, points.back().mean) << "a run alone keeps its noise";
}

TEST(RidgeConvergence, LeavesADoublesRangeOutsideIt) {
    const auto problem = make_random_ridge(20, 4, 2, 1);
    const double step = 1 / problem->eigenvalues().back();
    const auto points = run_to_minimiser(
        *problem, {.steps = one_late(step, 1.5 * step, 2), .iterations = 10'000, .batch = 4, .runs = 2});
    EXPECT_FALSE(points.back().bound);
    EXPECT_TRUE(std::isinf(points.back().deterministic));
    EXPECT_TRUE(std::isinf(points.back().mean));
    EXPECT_TRUE(std::isinf(points.back().standard_error));
}

TEST(RidgeConvergence, IsTheSameForTheSameSeed) {
    const auto problem = make_random_ridge(20, 4, 2, 1);
    const ConvergenceOptions options{.steps = {.fresh = 0.01}, .iterations = 50, .batch = 4, .runs = 3, .seed = 5};
    const auto once = run_to_minimiser(*problem, options), again = run_to_minimiser(*problem, options);
    EXPECT_EQ(once.back().mean, again.back().mean);
    ConvergenceOptions other = options;
    other.seed = 6;
    EXPECT_NE(run_to_minimiser(*problem, other).back().mean, once.back().mean);
}

} // namespace
} // namespace lategrad
