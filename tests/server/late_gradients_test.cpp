/// What late gradients do to a quadratic f(w) = λ/2·w², where every number can be worked out by hand.
#include <gtest/gtest.h>

#include <cmath>
#include <span>

#include "tests/support/virtual_cluster.h"

namespace lategrad {
namespace {

/// λ = 1: the gradient of a worker is w itself.
double parabola(WorkerId, Step, std::span<const float> params, std::span<float> grad) {
    grad[0] = params[0];
    return 0.5 * params[0] * params[0];
}

Duration at(double units) {
    return from_seconds(units);
}

/// Workers 0 and 1 (b = 1) take one unit of time and close every update, at t = 1, 2, 3, 4. Worker 2 (b = 2) takes 2.5
/// units for its first gradient and 1 for its second: they arrive at t = 2.5 and 3.5 and join the updates of t = 3
/// (version 2; base 0, two updates late) and t = 4 (version 3; base 2, one update late).
VirtualClusterOptions scripted(const char* late_weight, double momentum) {
    VirtualClusterOptions options;
    options.examples = {1, 1, 2};
    options.policy.wait_for = 2;
    options.policy.late_weight = LateWeight::parse(late_weight);
    options.optimizer.momentum = momentum;
    options.server.learning_rate = 0.5;
    options.server.updates = 4;
    options.gradient = parabola;
    options.duration = [](WorkerId worker, Step step) {
        return worker == WorkerId{2} && step == Step{0} ? at(2.5) : at(1);
    };
    return options;
}

struct Expected {
    const char* late_weight;
    double momentum;
    double w;                ///< after four updates
    double weight3, weight4; ///< of worker 2 in the third and fourth update
};

class ReuseByHand : public testing::TestWithParam<Expected> {};

// With lr = 0.5 and D = 1 + 1 + 2 = 4, and s3, s4 the late weights:
//   G1 = (1·w0 + 1·w0)/4          = w0/2
//   G2 = (1·w1 + 1·w1)/4          = w1/2
//   G3 = (w2 + w2 + s3·2·w0)/4    = w2/2 + s3·w0/2
//   G4 = (w3 + w3 + s4·2·w2)/4    = w3/2 + s4·w2/2
// Late weights: one 1, 1; inverse 1/(1+2), 1/(1+1); span: worker 2 was never applied before version 2 becomes 3, so
// three updates for one gradient, 3, then one for one, 1.
//
// Momentum 0, w' = w − G/2:
//   w1 = 1 − 0.25 = 0.75;  w2 = 0.75 − 0.1875 = 0.5625
//   w3 = 0.75·w2 − 0.25·s3       = 0.421875 − 0.25·s3
//   w4 = 0.75·w3 − 0.25·s4·w2    = 0.75·w3 − 0.140625·s4
//   one:     w3 =  0.171875           w4 =  0.12890625 − 0.140625           = −0.01171875
//   inverse: w3 =  0.338541666…       w4 =  0.25390625 − 0.0703125          =  0.18359375
//   span:    w3 = −0.328125           w4 = −0.24609375 − 0.140625           = −0.38671875
//
// Momentum 0.9, m' = 0.9·m + G, w' = w − m'/2:
//   m1 = 0.5, w1 = 0.75;  m2 = 0.45 + 0.375 = 0.825, w2 = 0.3375
//   one:     G3 = 0.66875         m3 = 1.41125         w3 = −0.368125
//            G4 = −0.0153125      m4 = 1.2548125       w4 = −0.99553125
//   inverse: G3 = 0.335416666…    m3 = 1.077916666…    w3 = −0.201458333…
//            G4 = −0.016354166…   m4 = 0.953770833…    w4 = −0.67834375
//   span:    G3 = 1.66875         m3 = 2.41125         w3 = −0.868125
//            G4 = −0.2653125      m4 = 1.9048125       w4 = −1.82053125
INSTANTIATE_TEST_SUITE_P(
    LateWeights, ReuseByHand,
    testing::Values(Expected{"one", 0, -0.01171875, 1, 1}, Expected{"inverse", 0, 0.18359375, 1.0 / 3, 0.5},
                    Expected{"span", 0, -0.38671875, 3, 1}, Expected{"one", 0.9, -0.99553125, 1, 1},
                    Expected{"inverse", 0.9, -0.67834375, 1.0 / 3, 0.5}, Expected{"span", 0.9, -1.82053125, 3, 1}));

TEST_P(ReuseByHand, ReachesTheNumbersWorkedOut) {
    VirtualCluster cluster(scripted(GetParam().late_weight, GetParam().momentum));
    ASSERT_TRUE(cluster.run());

    const auto fresh = [](std::uint32_t worker, std::uint64_t version) {
        return AppliedGradient{WorkerId{worker}, Step{version}, Version{version}, 1, 1};
    };
    const auto updates = cluster.all<UpdateEvent>();
    ASSERT_EQ(updates.size(), 4u);
    EXPECT_EQ(updates[0].applied, (std::vector{fresh(0, 0), fresh(1, 0)}));
    EXPECT_EQ(updates[1].applied, (std::vector{fresh(0, 1), fresh(1, 1)}));
    EXPECT_EQ(updates[2].applied,
              (std::vector{fresh(0, 2), fresh(1, 2),
                           AppliedGradient{WorkerId{2}, Step{0}, Version{0}, 2, GetParam().weight3}}));
    EXPECT_EQ(updates[3].applied,
              (std::vector{fresh(0, 3), fresh(1, 3),
                           AppliedGradient{WorkerId{2}, Step{1}, Version{2}, 2, GetParam().weight4}}));
    for (const UpdateEvent& update : updates) EXPECT_EQ(update.denominator, 4);
    EXPECT_EQ(updates[3].examples_applied, 12u);
    EXPECT_NEAR(cluster.parameters()[0], GetParam().w, 1e-6);
}

/// One fast worker closes an update at t = 1, 2, …; the slow ones arrive in between.
struct Lateness {
    std::vector<std::uint32_t> examples;
    Normalize normalize;
    std::function<Duration(WorkerId, Step)> duration;
    std::uint64_t staleness; ///< of the slow gradient in every update, once all have begun
};

constexpr std::uint64_t kUpdates = 3000;

/// Runs f(w) = w²/2 from w = 1 and says whether it converges to 0 or diverges.
bool converges(const Lateness& lateness, double learning_rate) {
    VirtualClusterOptions options;
    options.examples = lateness.examples;
    options.policy.wait_for = 1;
    options.policy.normalize = lateness.normalize;
    options.server.learning_rate = learning_rate;
    options.server.updates = kUpdates;
    options.gradient = parabola;
    options.duration = lateness.duration;
    VirtualCluster cluster(options);
    EXPECT_TRUE(cluster.run());

    // Every update but the first ones: the fast worker's gradient is fresh, and one slow worker's is so many updates
    // late.
    const auto updates = cluster.all<UpdateEvent>();
    for (std::size_t i = 2 * lateness.staleness; i < updates.size() && lateness.examples.size() > 1; ++i) {
        EXPECT_EQ(updates[i].applied.size(), 2u);
        EXPECT_EQ(updates[i].version - updates[i].applied[0].base, 0u);
        EXPECT_EQ(updates[i].version - updates[i].applied[1].base, lateness.staleness);
        EXPECT_EQ(updates[i].denominator, 4);
    }

    // Out of the floats' range, the gradients are refused and the run ends as diverged.
    const double w = std::abs(cluster.parameters()[0]);
    const bool diverged = cluster.server().outcome() == Outcome::diverged || w > 1e6;
    EXPECT_TRUE(diverged || w < 1e-3) << "neither: " << w;
    EXPECT_TRUE(diverged || updates.size() == kUpdates);
    return !diverged;
}

// Where p of the gradient mass is exactly one update late, an update along an eigenvalue λ is heavy-ball with momentum
// αpλ, stable for αλ < min(1/p, 2/(1 − 2p)): 2 without late gradients, 4 at p = 1/4.

TEST(StabilityLimit, IsTwoWithoutLateGradients) {
    const Lateness none{{4}, Normalize::workers, [](WorkerId, Step) { return at(1); }, 0};
    EXPECT_TRUE(converges(none, 1.95));
    EXPECT_FALSE(converges(none, 2.05));
}

TEST(StabilityLimit, IsFourWithAQuarterOneUpdateLate) {
    // The slow worker is half a unit behind: what it began after update v joins update v + 1.
    const Lateness quarter{
        {3, 1},
        Normalize::workers,
        [](WorkerId worker, Step step) { return worker == WorkerId{1} && step == Step{0} ? at(1.5) : at(1); },
        1};
    EXPECT_TRUE(converges(quarter, 3.9));
    EXPECT_FALSE(converges(quarter, 4.1));
}

TEST(StabilityLimit, GainsNothingWhenTheQuarterIsTwoUpdatesLate) {
    // Two slow workers, two units each, take turns: z³ = (1 − 3/4·αλ)z² − 1/4·αλ meets z = −1 at αλ = 2.
    const Lateness quarter{{3, 1, 1},
                           Normalize::weights,
                           [](WorkerId worker, Step step) {
                               if (worker == WorkerId{0}) return at(1);
                               if (step > Step{0}) return at(2);
                               return worker == WorkerId{1} ? at(2.5) : at(1.5);
                           },
                           2};
    EXPECT_TRUE(converges(quarter, 1.95));
    EXPECT_FALSE(converges(quarter, 2.05));
}

} // namespace
} // namespace lategrad
