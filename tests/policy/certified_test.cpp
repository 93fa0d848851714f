/// `--late-weight certified` keeps, in every update of every run, the condition that it is named after: the fresh
/// gradients' step is the learning rate at most, and the late ones' sum to a/2b of it at most.
#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "lategrad/core/error.h"
#include "lategrad/core/random.h"
#include "lategrad/policy/policy.h"

namespace lategrad {
namespace {

PolicyOptions certified(std::string_view kind) {
    PolicyOptions options;
    options.parse_kind(kind);
    options.late_weight = LateWeight::parse("certified");
    return options;
}

/// What one random run comes to.
struct Seen {
    std::size_t updates = 0, late = 0, weighed_less = 0;
};

/// Workers of random batches that push in random order, leave and come back.
void run(RandomStream& random, const PolicyOptions& options, Seen& seen) {
    const auto policy = make_policy(options);
    const auto workers = static_cast<std::uint32_t>(options.wait_for + random.below(4));
    std::vector<std::uint32_t> examples(workers);
    for (auto& b : examples) b = 1 + static_cast<std::uint32_t>(random.below(9));
    std::map<WorkerId, Version> computing;
    std::vector<std::uint64_t> steps(workers, 0);
    std::vector<bool> active(workers, false);
    Decision decision;
    const auto step = [&](const PolicyEvent& event) {
        decision.clear();
        policy->step(event, Time{}, decision);
        for (const WorkerId worker : decision.send) computing[worker] = policy->version();
        if (!decision.closes) return;
        double fresh = 0, late = 0;
        for (const AppliedGradient& gradient : decision.applied) {
            const bool is_fresh = gradient.base == decision.version;
            (is_fresh ? fresh : late) += gradient.weight * gradient.examples;
            if (is_fresh) EXPECT_EQ(gradient.weight, 1);
            else EXPECT_LE(gradient.weight, 1);
            seen.late += !is_fresh;
            seen.weighed_less += gradient.weight < 1;
        }
        EXPECT_GT(fresh, 0);
        EXPECT_LE(late, options.late_weight.late_share * fresh * (1 + 1e-12));
        EXPECT_LE(fresh, decision.denominator) << "a step above the learning rate";
        ++seen.updates;
    };
    for (std::uint32_t i = 0; i < workers; ++i) {
        active[i] = true;
        step(WorkerJoined{WorkerId{i}, examples[i]});
    }
    for (int events = 0; events < 150; ++events) {
        const WorkerId worker{static_cast<std::uint32_t>(random.below(workers))};
        const std::uint32_t i = worker.value();
        if (random.below(12) == 0) {
            active[i] = !active[i];
            computing.erase(worker);
            if (active[i]) step(WorkerJoined{worker, examples[i]});
            else step(WorkerLeft{worker});
        } else if (const auto found = computing.find(worker); found != computing.end()) {
            const Version base = found->second;
            computing.erase(found);
            step(GradientArrived{worker, Step{steps[i]++}, base});
        }
    }
}

TEST(Certified, HoldsTheConditionInEveryUpdate) {
    Seen seen;
    for (std::uint64_t seed = 0; seed < 300; ++seed) {
        RandomStream random(seed, Purpose::test);
        const char* const kinds[] = {"sync", "backup", "reuse", "reuse"};
        const std::optional<Normalize> normalize[] = {{}, Normalize::workers, Normalize::quorum, Normalize::weights};
        PolicyOptions options = certified(kinds[random.below(4)]);
        options.wait_for = 1 + random.below(4);
        options.normalize = normalize[random.below(4)];
        options.late_weight.certify(random.uniform() + 0.01, 1 + random.uniform());
        SCOPED_TRACE(testing::Message() << "seed " << seed << ", " << options.kind);
        run(random, options, seen);
    }
    EXPECT_GT(seen.updates, 5000u);
    EXPECT_GT(seen.late, seen.weighed_less);
    EXPECT_GT(seen.weighed_less, 1000u);
}

TEST(Certified, NeedsAFreshGradientInEveryUpdate) {
    for (const char* kind : {"sync", "backup", "reuse"}) EXPECT_NO_THROW(make_policy(certified(kind))) << kind;
    for (const char* kind : {"kasync", "kbatch", "async", "ssp:2"})
        EXPECT_THROW(make_policy(certified(kind)), InputError) << kind;
}

} // namespace
} // namespace lategrad
