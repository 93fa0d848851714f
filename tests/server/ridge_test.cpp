/// Where each policy ends on a ridge regression whose answer is known in closed form, with one worker four times slower
/// than the others (docs/policies.md, "What it converges to").
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <numeric>
#include <span>
#include <utility>

#include "lategrad/core/random.h"
#include "tests/support/virtual_cluster.h"

namespace lategrad {
namespace {

constexpr std::size_t kColumns = 5;
constexpr std::size_t kRows = 40;
constexpr std::size_t kWorkers = 4;
constexpr std::size_t kSlow = kWorkers - 1;
constexpr double kEta = 4;

using Vector = std::array<double, kColumns>;

double dot(const Vector& a, const Vector& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

double distance(const Vector& a, const Vector& b) {
    double sum = 0;
    for (std::size_t i = 0; i < kColumns; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return std::sqrt(sum);
}

/// Solves a·x = b by Gaussian elimination with partial pivoting.
Vector solve(std::array<Vector, kColumns> a, Vector b) {
    for (std::size_t column = 0; column < kColumns; ++column) {
        std::size_t pivot = column;
        for (std::size_t row = column; row < kColumns; ++row) {
            if (std::abs(a[row][column]) > std::abs(a[pivot][column])) pivot = row;
        }
        std::swap(a[column], a[pivot]);
        std::swap(b[column], b[pivot]);
        for (std::size_t row = column + 1; row < kColumns; ++row) {
            const double factor = a[row][column] / a[column][column];
            for (std::size_t i = column; i < kColumns; ++i) a[row][i] -= factor * a[column][i];
            b[row] -= factor * b[column];
        }
    }
    for (std::size_t row = kColumns; row-- > 0;) {
        for (std::size_t i = row + 1; i < kColumns; ++i) b[row] -= a[row][i] * b[i];
        b[row] /= a[row][row];
    }
    return b;
}

/// Rows [first, last) of the problem; f is the mean over them of (x·w − y)², plus η/m·‖w‖².
struct Part {
    std::size_t first;
    std::size_t last;
};

constexpr Part kWhole{0, kRows};

Part contiguous(std::size_t worker) {
    return {worker * kRows / kWorkers, (worker + 1) * kRows / kWorkers};
}

struct Problem {
    std::array<Vector, kRows> x;
    std::array<double, kRows> y;

    /// Each contiguous part follows a line of its own, so that it matters whose rows are heard.
    Problem() {
        RandomStream random(7, Purpose::test);
        const auto draw = [&] { return 2 * random.uniform() - 1; };
        for (std::size_t worker = 0; worker < kWorkers; ++worker) {
            Vector line;
            for (double& value : line) value = draw();
            for (std::size_t row = contiguous(worker).first; row < contiguous(worker).last; ++row) {
                for (double& value : x[row]) value = std::sqrt(3.0) * draw(); // variance 1
                y[row] = dot(x[row], line) + 0.1 * draw();
            }
        }
    }

    Vector gradient(const Part& part, const Vector& w) const {
        Vector sum{};
        for (std::size_t row = part.first; row < part.last; ++row) {
            const double residual = 2 * (dot(x[row], w) - y[row]) / static_cast<double>(part.last - part.first);
            for (std::size_t i = 0; i < kColumns; ++i) sum[i] += residual * x[row][i];
        }
        for (std::size_t i = 0; i < kColumns; ++i) sum[i] += 2 * kEta / kRows * w[i];
        return sum;
    }

    /// The minimiser of Σ rᵢ·fᵢ over the contiguous parts.
    Vector minimiser(const std::array<double, kWorkers>& r) const {
        std::array<Vector, kColumns> hessian{};
        Vector right{};
        for (std::size_t worker = 0; worker < kWorkers; ++worker) {
            const Part part = contiguous(worker);
            const double share = r[worker] / static_cast<double>(part.last - part.first);
            for (std::size_t row = part.first; row < part.last; ++row) {
                for (std::size_t i = 0; i < kColumns; ++i) {
                    for (std::size_t j = 0; j < kColumns; ++j) hessian[i][j] += share * x[row][i] * x[row][j];
                    right[i] += share * x[row][i] * y[row];
                }
            }
            for (std::size_t i = 0; i < kColumns; ++i) hessian[i][i] += r[worker] * kEta / kRows;
        }
        return solve(hessian, right);
    }
};

const Problem& problem() {
    static const Problem built;
    return built;
}

/// All rows count alike.
const Vector& optimum() {
    static const Vector w = problem().minimiser({1, 1, 1, 1});
    return w;
}

/// Enough to settle: ten time constants of the slowest direction, and a whole number of the slow worker's turns.
std::uint64_t updates_at(double learning_rate) {
    return 1000 + static_cast<std::uint64_t>(std::lround(16 / learning_rate));
}

struct Finish {
    Vector w;
    std::array<double, kWorkers> r{}; ///< each worker's applied mass Σ s·b/D per update, over the second half
};

Finish run(const char* policy, const char* late_weight, bool contiguous_parts, double learning_rate,
           std::uint64_t updates) {
    VirtualClusterOptions options;
    options.policy.parse_kind(policy);
    options.policy.late_weight = LateWeight::parse(late_weight);
    options.policy.wait_for = 3;
    options.examples.assign(kWorkers, kRows / kWorkers);
    options.initial.assign(kColumns, 0);
    options.server.learning_rate = learning_rate;
    options.server.updates = updates;
    options.gradient = [&](WorkerId worker, Step, std::span<const float> params, std::span<float> grad) {
        Vector w;
        std::copy(params.begin(), params.end(), w.begin());
        const Vector g = problem().gradient(contiguous_parts ? contiguous(worker.value()) : kWhole, w);
        std::copy(g.begin(), g.end(), grad.begin());
        return 0.0;
    };
    options.duration = [](WorkerId worker, Step step) {
        if (worker.value() != kSlow) return from_seconds(1);
        return from_seconds(step == Step{0} ? 4.1 : 4); // from then on just behind the others, every fourth update
    };
    VirtualCluster cluster(options);
    EXPECT_TRUE(cluster.run());
    EXPECT_EQ(cluster.server().version(), Version{updates});

    Finish result;
    const auto params = cluster.parameters();
    std::copy(params.begin(), params.end(), result.w.begin());
    for (const UpdateEvent& update : cluster.all<UpdateEvent>()) {
        if (update.version.value() < updates / 2) continue;
        for (const AppliedGradient& applied : update.applied) {
            result.r[applied.worker.value()] +=
                applied.weight * applied.examples / update.denominator / static_cast<double>(updates - updates / 2);
        }
    }
    return result;
}

TEST(Ridge, ClosedFormIsWhereTheGradientVanishes) {
    EXPECT_LT(distance(problem().gradient(kWhole, optimum()), {}), 1e-12);
    EXPECT_GT(distance(optimum(), {}), 0.1);
}

class RidgeWithAllRows : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Policies, RidgeWithAllRows,
                         testing::Values("sync", "backup", "reuse", "kasync", "async", "ssp:3"));

TEST_P(RidgeWithAllRows, ReachesTheOptimum) {
    EXPECT_LT(distance(run(GetParam(), "one", false, 0.1, 1500).w, optimum()), 2e-6);
}

TEST(RidgeOnContiguousParts, SyncReachesTheOptimum) {
    EXPECT_LT(distance(run("sync", "one", true, 0.1, 1500).w, optimum()), 2e-6);
}

TEST(RidgeOnContiguousParts, BackupForgetsTheSlowWorkersRows) {
    const Vector fast_rows_only = problem().minimiser({1, 1, 1, 0});
    ASSERT_GT(distance(fast_rows_only, optimum()), 0.1);
    const Finish backup = run("backup", "one", true, 0.1, 1500);
    EXPECT_EQ(backup.r[kSlow], 0);
    EXPECT_LT(distance(backup.w, fast_rows_only), 2e-6);
}

TEST(RidgeOnContiguousParts, ReuseCountsEveryRowByItsWorkersPace) {
    double before = 0;
    for (const double learning_rate : {0.1, 0.01, 0.001}) {
        const Finish reuse = run("reuse", "one", true, learning_rate, updates_at(learning_rate));
        EXPECT_NEAR(reuse.r[0], 0.25, 1e-9);
        EXPECT_NEAR(reuse.r[kSlow], 0.25 / 4, 1e-9);
        const Vector weighted = problem().minimiser(reuse.r);
        const double off = distance(reuse.w, weighted);
        EXPECT_LT(off, 0.2 * distance(weighted, optimum())) << learning_rate;
        if (before > 0) {
            EXPECT_LT(off, before / 8) << learning_rate;
        }
        before = off;
    }
}

TEST(RidgeOnContiguousParts, ReuseWithSpanApproachesTheOptimumAsTheLearningRateFalls) {
    const double without = distance(run("reuse", "one", true, 0.001, updates_at(0.001)).w, optimum());
    double before = 0;
    for (const double learning_rate : {0.1, 0.01, 0.001}) {
        const Finish span = run("reuse", "span", true, learning_rate, updates_at(learning_rate));
        EXPECT_NEAR(span.r[kSlow], 0.25, 1e-9);
        const double off = distance(span.w, optimum());
        EXPECT_LT(off, without);
        if (before > 0) {
            EXPECT_GT(off, before / 13) << learning_rate;
            EXPECT_LT(off, before / 8) << learning_rate;
        }
        before = off;
    }
}

} // namespace
} // namespace lategrad
