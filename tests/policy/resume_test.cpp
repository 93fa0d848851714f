/// A policy that was stored and read again decides as the one that went on.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <deque>
#include <memory>
#include <vector>

#include "lategrad/policy/policy.h"
#include "tests/testing/stored.h"

namespace lategrad {
namespace {

constexpr std::uint32_t kWorkers = 6;

PolicyOptions options_of(const std::string& kind) {
    PolicyOptions options;
    options.parse_kind(kind);
    options.wait_for = 3;
    return options;
}

std::vector<PolicyOptions> every_policy() {
    std::vector<PolicyOptions> all;
    for (const char* kind : {"sync", "backup", "reuse", "kasync", "kbatch", "async", "ssp:0", "ssp:2"}) {
        all.push_back(options_of(kind));
        all.push_back(options_of(kind));
        all.back().late_weight = LateWeight::parse("span");
        all.back().staleness_max = 2;
    }
    all.push_back(options_of("backup"));
    all.back().cancel_late = true;
    return all;
}

/// A server's world, drawn: who is there, and which gradients are on their way.
struct World {
    RandomStream random;
    struct Worker {
        bool there = false;
        Step next;
        std::deque<Version> under_way; ///< their base versions, the oldest first
    };
    std::vector<Worker> workers{kWorkers};

    explicit World(std::uint64_t seed) : random(seed, Purpose::test) {}

    PolicyEvent event() {
        for (;;) {
            const WorkerId id{static_cast<std::uint32_t>(random.below(kWorkers))};
            Worker& worker = workers[id.value()];
            if (!worker.there) {
                worker.there = true;
                return WorkerJoined{id, 1 + static_cast<std::uint32_t>(random.below(40))};
            }
            if (random.below(20) == 0) {
                worker.there = false;
                worker.under_way.clear();
                return WorkerLeft{id};
            }
            if (worker.under_way.empty()) continue;
            const Version base = worker.under_way.front();
            worker.under_way.pop_front();
            const Step step = worker.next;
            worker.next = step.next();
            if (random.below(20) == 0) return GradientRejected{id, base, Reason::not_finite};
            return GradientArrived{id, step, base};
        }
    }

    void told(const Decision& decision, Version sent) {
        for (const WorkerId id : decision.cancel) {
            if (random.below(2) == 0) workers[id.value()].under_way.clear(); // else it crosses the cancellation
        }
        for (const WorkerId id : decision.send) workers[id.value()].under_way.push_back(sent);
    }
};

bool same(const Decision& a, const Decision& b) {
    return a.fate == b.fate && a.reason == b.reason && a.closes == b.closes && a.version == b.version &&
           a.applied == b.applied && a.denominator == b.denominator && a.send == b.send && a.cancel == b.cancel;
}

void steps(World& world, Policy& policy, std::uint64_t count) {
    Decision decision;
    for (std::uint64_t i = 0; i < count; ++i) {
        decision.clear();
        policy.step(world.event(), Time{}, decision);
        world.told(decision, policy.version());
    }
}

RC_GTEST_PROP(ResumedPolicy, DecidesAsIfItHadNeverStopped, (std::uint64_t seed)) {
    const PolicyOptions options = *rc::gen::elementOf(every_policy());
    World world(seed);
    const auto policy = make_policy(options);
    steps(world, *policy, world.random.below(200));
    const Stored stored = Stored::of(*policy);

    const auto resumed = make_policy(options);
    World elsewhere(seed + 1);
    steps(elsewhere, *resumed, elsewhere.random.below(50)); // what it knew before does not matter
    BufferPool none(0);
    read_stored(stored, none, *resumed);
    RC_ASSERT(resumed->version() == policy->version());
    RC_ASSERT(resumed->active() == policy->active());
    RC_ASSERT(resumed->held() == policy->held());
    Decision decision, again;
    for (int i = 0; i < 200; ++i) {
        const PolicyEvent event = world.event();
        decision.clear();
        again.clear();
        policy->step(event, Time{}, decision);
        resumed->step(event, Time{}, again);
        RC_ASSERT(same(decision, again));
        world.told(decision, policy->version());
    }
    RC_ASSERT(Stored::of(*policy) == Stored::of(*resumed));
}

RC_GTEST_PROP(ResumedPolicy, IsReadOrRefusedWhereBytesAreDamaged, (std::uint64_t seed)) {
    const PolicyOptions options = *rc::gen::elementOf(every_policy());
    World world(seed);
    const auto policy = make_policy(options);
    steps(world, *policy, world.random.below(100));
    const Stored stored = Stored::of(*policy);
    BufferPool none(0);
    for (int i = 0; i < 50; ++i) {
        const auto resumed = make_policy(options);
        refusal([&] { read_stored(damaged(stored, world.random), none, *resumed); });
    }
}

TEST(ResumedPolicy, IsOfItsKind) {
    const auto sync = make_policy(options_of("sync"));
    const auto reuse = make_policy(options_of("reuse"));
    BufferPool none(0);
    EXPECT_EQ(refusal([&] { read_stored(Stored::of(*sync), none, *reuse); }),
              "at byte 16: --policy: 'sync', but 'reuse' here");
}

} // namespace
} // namespace lategrad
