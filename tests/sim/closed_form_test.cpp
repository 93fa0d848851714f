/// The mean time of an update where order statistics give it in closed form (Dutta et al. 2018, "Slow and Stale
/// Gradients Can Win the Race", §3).
#include <gtest/gtest.h>

#include <chrono>

#include "lategrad/worker/straggle.h"
#include "tests/sim/timing_run.h"

namespace lategrad {
namespace {

constexpr std::uint64_t kUpdates = 60'000; // the mean's own error is about 0.3 %

/// 1 + 1/2 + … + 1/n.
double harmonic(std::size_t n) {
    double sum = 0;
    for (std::size_t i = 1; i <= n; ++i) sum += 1 / static_cast<double>(i);
    return sum;
}

struct Case {
    std::size_t n;
    std::size_t k;
};

double seconds_per_update(const char* policy, Case c, const char* straggle, bool cancel_late = false) {
    const StraggleModel model = StraggleModel::parse(straggle, 7);
    ClusterOptions options = TimingRun::options(policy, c.n, c.k, kUpdates);
    options.policy.cancel_late = cancel_late;
    options.compute_time = [&](WorkerId worker, Step step) { return model.delay(worker, step, c.n, Duration(0)); };
    TimingRun run(std::move(options));
    run.keep = false;
    EXPECT_TRUE(run.cluster().run());
    return run.seconds_per_update();
}

class ClosedForm : public testing::TestWithParam<Case> {};

TEST_P(ClosedForm, BackupThatCancelsWaitsForTheKthOfN) {
    const auto [n, k] = GetParam();
    const double expected = 0.03 + 0.02 * (harmonic(n) - harmonic(n - k));
    EXPECT_NEAR(seconds_per_update("backup", GetParam(), "shifted-exp:30ms,20ms", true), expected, 0.01 * expected);
}

TEST_P(ClosedForm, SyncWaitsForAll) {
    const double expected = 0.03 + 0.02 * harmonic(GetParam().n);
    EXPECT_NEAR(seconds_per_update("sync", GetParam(), "shifted-exp:30ms,20ms"), expected, 0.01 * expected);
}

TEST_P(ClosedForm, KBatchTakesAKthOfTheRateOfAll) {
    const double expected = 0.02 * static_cast<double>(GetParam().k) / static_cast<double>(GetParam().n);
    EXPECT_NEAR(seconds_per_update("kbatch", GetParam(), "exp:20ms"), expected, 0.01 * expected);
}

TEST_P(ClosedForm, KAsyncWaitsForKOfThoseThatForgetHowLongTheyHaveComputed) {
    // Who has pushed waits for the update, so that with the j-th push one less computes.
    const auto [n, k] = GetParam();
    const double expected = 0.02 * (harmonic(n) - harmonic(n - k));
    EXPECT_NEAR(seconds_per_update("kasync", GetParam(), "exp:20ms"), expected, 0.01 * expected);
}

TEST_P(ClosedForm, AsyncIsTheRateOfAll) {
    const double expected = 0.02 / static_cast<double>(GetParam().n);
    EXPECT_NEAR(seconds_per_update("async", GetParam(), "exp:20ms"), expected, 0.01 * expected);
    EXPECT_NEAR(seconds_per_update("kasync", {GetParam().n, 1}, "exp:20ms"), expected, 0.01 * expected);
}

INSTANTIATE_TEST_SUITE_P(Clusters, ClosedForm, testing::Values(Case{4, 3}, Case{8, 6}, Case{16, 4}),
                         [](const auto& info) {
                             return "n" + std::to_string(info.param.n) + "k" + std::to_string(info.param.k);
                         });

} // namespace
} // namespace lategrad
