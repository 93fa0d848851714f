/// That staleness is momentum, measured.
#include "lategrad/theory/momentum.h"

#include <gtest/gtest.h>

#include <cmath>

namespace lategrad {
namespace {

class Momentum : public testing::TestWithParam<double> {};
INSTANTIATE_TEST_SUITE_P(LateShares, Momentum, testing::Values(0.0, 0.1, 0.25, 0.5));

TEST_P(Momentum, OneUpdateLateIsMeasuredAsPredicted) {
    const auto problem = make_random_ridge(64, 3, 1, 1);
    const double alpha = 1 / problem->eigenvalues().back();
    const auto fits = measure_momentum(
        *problem, {.late_share = GetParam(), .delay = 1, .alpha = alpha, .batch = 8, .iterations = 40'000, .seed = 2});
    ASSERT_EQ(fits.size(), 3u);
    for (const MomentumFit& fit : fits) {
        EXPECT_DOUBLE_EQ(fit.predicted, alpha * GetParam() * fit.curvature);
        EXPECT_LT(fit.standard_error, 0.006);
        EXPECT_NEAR(fit.measured, fit.predicted, 4 * fit.standard_error);
        EXPECT_NEAR(fit.step, alpha, 4 * fit.step_standard_error);
    }
}

TEST(Momentum, TwoUpdatesLateIsLessAndAShorterStep) {
    const auto problem = make_random_ridge(64, 3, 1, 1);
    const double alpha = 1 / problem->eigenvalues().back();
    const auto fits = measure_momentum(
        *problem, {.late_share = 0.3, .delay = 2, .alpha = alpha, .batch = 8, .iterations = 40'000, .seed = 2});
    for (const MomentumFit& fit : fits) {
        EXPECT_LT(fit.measured, fit.predicted - 10 * fit.standard_error);
        EXPECT_GT(fit.measured, 10 * fit.standard_error);
        EXPECT_LT(fit.step, 0.9 * alpha);
    }
}

} // namespace
} // namespace lategrad
