/// Whatever arrives and whoever leaves: every gradient has exactly one fate, and every run ends.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <tuple>

#include "lategrad/core/random.h"
#include "tests/support/virtual_cluster.h"

namespace lategrad {
namespace {

constexpr std::uint64_t kRun = 77;

/// One random run; everything else follows from `seed`.
struct Scenario {
    std::uint64_t seed;
    std::size_t workers;
    std::string policy;
    std::size_t wait_for;
    std::string late_weight;
    std::string normalize; ///< empty: the policy's own
    int staleness_max;     ///< −1: none
    bool cancel_late;
    int update_duration;
    int latency;
    std::uint64_t updates;
    int time_limit; ///< 0: none
    int deaths;
    bool returns; ///< those that died come back, perhaps before their death was noticed
    int stops;    ///< of a worker's process, which may go on later
    std::size_t workers_min;
    int nan_percent;
    int duplicate_percent;
    int garbage; ///< messages that no worker of this run would send

    friend std::ostream& operator<<(std::ostream& out, const Scenario& s) {
        return out << "seed " << s.seed << ", " << s.workers << " workers, " << s.policy << ", wait-for " << s.wait_for
                   << ", late-weight " << s.late_weight << ", normalize '" << s.normalize << "', staleness-max "
                   << s.staleness_max << ", cancel-late " << s.cancel_late << ", update " << s.update_duration
                   << ", latency " << s.latency << ", updates " << s.updates << ", time limit " << s.time_limit
                   << ", deaths " << s.deaths << (s.returns ? " and returns" : "") << ", stops " << s.stops
                   << ", workers-min " << s.workers_min << ", NaN " << s.nan_percent << " %, duplicates "
                   << s.duplicate_percent << " %, garbage " << s.garbage;
    }
};

Scenario draw_scenario() {
    Scenario s;
    s.seed = *rc::gen::arbitrary<std::uint64_t>();
    s.workers = *rc::gen::inRange<std::size_t>(1, 7);
    s.policy = *rc::gen::element<std::string>("sync", "backup", "reuse", "kasync", "kbatch", "async", "ssp:0", "ssp:2");
    s.wait_for = *rc::gen::inRange<std::size_t>(1, s.workers + 1);
    s.late_weight = *rc::gen::element<std::string>("one", "inverse", "sqrt", "exp:0.5", "span");
    s.normalize = *rc::gen::element<std::string>("", "workers", "quorum", "weights");
    s.staleness_max = *rc::gen::inRange(-1, 3);
    s.cancel_late = s.policy == "backup" && *rc::gen::arbitrary<bool>();
    s.update_duration = *rc::gen::inRange(0, 12);
    s.latency = *rc::gen::element(0, 0, 1, 3, 15);
    s.updates = *rc::gen::inRange<std::uint64_t>(0, 25);
    s.time_limit = *rc::gen::element(0, 0, 40, 150);
    s.deaths = *rc::gen::inRange<int>(0, 3 * static_cast<int>(s.workers));
    s.returns = *rc::gen::arbitrary<bool>();
    s.stops = *rc::gen::element(0, 0, 3, 10);
    s.workers_min = *rc::gen::element<std::size_t>(1, 1, (s.workers + 1) / 2);
    s.nan_percent = *rc::gen::element(0, 0, 10, 40);
    s.duplicate_percent = *rc::gen::element(0, 0, 20);
    s.garbage = *rc::gen::element(0, 0, 10);
    return s;
}

/// A message that a confused or hostile peer may send at any time.
Event garbage(RandomStream& random, std::size_t workers) {
    const Peer peer{1 + static_cast<std::uint32_t>(random.below(workers + 2))}; // two are nobody's
    Message message{.type = MessageType::push,
                    .worker = WorkerId{peer.value() - 1},
                    .run = kRun,
                    .step = Step{random.below(8)},
                    .version = Version{random.below(8)},
                    .examples = 1,
                    .elements = 2};
    switch (random.below(6)) {
    case 0: message.step = Step{1000}; break;
    case 1: message.run = kRun + 1; break;
    case 2: message.version = Version{1'000'000}; break;
    case 3: message.worker = WorkerId{static_cast<std::uint32_t>(random.below(1000))}; break;
    case 4:
        message.type = random.below(2) ? MessageType::hello : MessageType::stop;
        message.elements = 3; // with the model's size it would be the return of one that died
        break;
    case 5: break; // perhaps even the right step, but the payload is missing
    }
    return MessageArrived{.peer = peer, .message = message, .defect = Reason::malformed};
}

VirtualClusterOptions options_of(const Scenario& s) {
    VirtualClusterOptions options;
    options.policy.parse_kind(s.policy);
    options.policy.wait_for = s.wait_for;
    options.policy.late_weight = LateWeight::parse(s.late_weight);
    if (!s.normalize.empty()) options.policy.parse_normalize(s.normalize);
    if (s.staleness_max >= 0) options.policy.staleness_max = static_cast<std::uint64_t>(s.staleness_max);
    options.policy.cancel_late = s.cancel_late;
    options.policy.workers_min = s.workers_min;
    if (s.stops > 0) {
        options.server.silence = {.heartbeat = Duration(5),
                                  .suspect_after = Duration(12),
                                  .dead_after = Duration(40),
                                  .overdue_after = Duration(60)};
    }
    options.server.run = kRun;
    options.server.updates = s.updates;
    if (s.time_limit > 0) options.server.time_limit = Duration(s.time_limit);
    options.server.epoch_examples = 100;
    options.update_duration = Duration(s.update_duration);
    options.latency = Duration(s.latency);
    options.initial = {1, -1};
    RandomStream random(s.seed, Purpose::test);
    options.examples.clear();
    for (std::size_t i = 0; i < s.workers; ++i) {
        options.examples.push_back(1 + static_cast<std::uint32_t>(random.below(4)));
    }
    const auto chance = [](const Scenario& of, std::uint64_t what, WorkerId worker, Step step) {
        return RandomStream(of.seed, Purpose::test, {what, worker.value(), step.value()});
    };
    options.gradient = [=](WorkerId worker, Step step, std::span<const float> params, std::span<float> grad) {
        std::copy(params.begin(), params.end(), grad.begin());
        const bool nan = chance(s, 1, worker, step).below(100) < static_cast<std::uint64_t>(s.nan_percent);
        if (nan) grad[1] = std::numeric_limits<float>::quiet_NaN();
        return 1.0;
    };
    options.duration = [=](WorkerId worker, Step step) {
        return Duration(1 + chance(s, 2, worker, step).below(worker.value() == 0 ? 30 : 10));
    };
    options.copies = [=](const Message& push) -> std::size_t {
        return chance(s, 3, push.worker, push.step).below(100) < static_cast<std::uint64_t>(s.duplicate_percent) ? 2
                                                                                                                 : 1;
    };
    return options;
}

/// What the events say became of each assignment.
class Fates {
  public:
    template <class Other>
    void operator()(const Other&) {} // nothing of a gradient
    void operator()(const EndEvent&) { ended_ = true; }
    void operator()(const AssignEvent& event) {
        RC_ASSERT(!ended_);
        RC_ASSERT(event.version.value() == updates_); // published, so no update is under way
        const bool is_new = states_.emplace(std::pair(event.worker, event.step), State{"open", event.version}).second;
        RC_ASSERT(is_new);
    }
    void operator()(const ArriveEvent& event) {
        RC_ASSERT(event.fate == Fate::hold || event.fate == Fate::drop);
        settle(event.worker, event.step, event.base, "open", event.fate == Fate::hold ? "held" : "dropped");
    }
    void operator()(const LostEvent& event) { settle(event.worker, event.step, {}, "open", "lost"); }
    void operator()(const UpdateEvent& event) {
        RC_ASSERT(event.version.value() == updates_);
        ++updates_;
        RC_ASSERT(!event.applied.empty());
        RC_ASSERT(event.denominator > 0);
        const auto in_order = [](const AppliedGradient& a, const AppliedGradient& b) {
            return std::tie(a.worker, a.step) < std::tie(b.worker, b.step);
        };
        RC_ASSERT(std::is_sorted(event.applied.begin(), event.applied.end(), in_order));
        for (const AppliedGradient& applied : event.applied) {
            RC_ASSERT(applied.base <= event.version);
            RC_ASSERT(!staleness_max || event.version - applied.base <= *staleness_max);
            RC_ASSERT(applied.weight > 0);
            settle(applied.worker, applied.step, applied.base, "held", "applied");
        }
        RC_ASSERT(count("held") == 0u); // an update applies all that is held
    }

    /// Of the assignments that ended so.
    std::uint64_t count(std::string_view fate) const {
        return static_cast<std::uint64_t>(std::count_if(states_.begin(), states_.end(),
                                                        [&](const auto& entry) { return entry.second.fate == fate; }));
    }
    LedgerTotals totals() const {
        return {.pushed = states_.size(),
                .applied = count("applied"),
                .dropped = count("dropped"),
                .held = count("held"),
                .lost = count("lost"),
                .open = count("open")};
    }
    bool ended() const { return ended_; }
    std::uint64_t updates() const { return updates_; }

    std::optional<std::uint64_t> staleness_max;

  private:
    struct State {
        std::string_view fate;
        Version base;
    };

    void settle(WorkerId worker, Step step, std::optional<Version> base, std::string_view from, std::string_view to) {
        const auto it = states_.find({worker, step});
        RC_ASSERT(it != states_.end());
        RC_ASSERT(it->second.fate == from);
        RC_ASSERT(!base || *base == it->second.base);
        it->second.fate = to;
    }

    std::map<std::pair<WorkerId, Step>, State> states_;
    std::uint64_t updates_ = 0;
    bool ended_ = false;
};

void check(const Scenario& s) {
    VirtualCluster cluster(options_of(s));
    RandomStream random(s.seed, Purpose::test, {9});
    for (int i = 0; i < s.deaths; ++i) {
        const WorkerId worker{static_cast<std::uint32_t>(random.below(s.workers))};
        const Duration at(random.below(200));
        cluster.kill(worker, Time{at});
        if (s.returns) cluster.revive(worker, Time{at + Duration(random.below(100))});
    }
    for (int i = 0; i < s.stops; ++i) {
        // Not before all have said hello: the run waits for them.
        const WorkerId worker{static_cast<std::uint32_t>(random.below(s.workers))};
        const Duration at(s.latency + 1 + static_cast<int>(random.below(200)));
        cluster.freeze(worker, Time{at});
        if (random.below(4) > 0) cluster.thaw(worker, Time{at + Duration(random.below(80))});
    }
    for (int i = 0; i < s.garbage; ++i) {
        // Not before all have said hello, or it would take the place of one.
        cluster.tell_server(Time{Duration(s.latency + 1 + static_cast<int>(random.below(100)))},
                            garbage(random, s.workers));
    }

    // Where it waits for workers that do not come, the user ends it.
    if (s.workers_min > 1) cluster.tell_server(Time{Duration(2000)}, StopRequested{});

    Fates fates;
    if (s.staleness_max >= 0) fates.staleness_max = static_cast<std::uint64_t>(s.staleness_max);
    std::size_t told = 0;
    std::size_t events = 0;
    while (cluster.step()) {
        RC_ASSERT(++events < 20'000u);
        for (; told < cluster.events().size(); ++told) std::visit(fates, cluster.events()[told].body);
        LedgerTotals totals = cluster.server().totals();
        RC_ASSERT(totals.adds_up());
        totals.stray = 0;
        RC_ASSERT(totals == fates.totals());
    }
    RC_ASSERT(cluster.done());
    RC_ASSERT(fates.ended());
    RC_ASSERT(cluster.server().totals().open == 0u);
    RC_ASSERT(cluster.server().version().value() == fates.updates());
    RC_ASSERT(cluster.server().outcome() != Outcome::running);
    // One that is held or on its way and one being computed. Where a worker is told to start anew, or garbage ended its
    // assignment, more may be on their way; the worker waits when there are three.
    const std::size_t held_max = s.policy == "kbatch" ? s.wait_for : 1;
    const bool third = s.cancel_late || s.stops > 0 || s.duplicate_percent > 0 || s.garbage > 0 || s.returns;
    for (std::uint32_t i = 0; i < s.workers; ++i) {
        RC_ASSERT(cluster.gradient_buffers(WorkerId{i}) <= held_max + (third ? 2 : 1));
    }
}

RC_GTEST_PROP(RunProperty, EveryGradientHasExactlyOneFateAndEveryRunEnds, ()) {
    const Scenario scenario = draw_scenario();
    RC_LOG() << scenario;
    check(scenario);
}

} // namespace
} // namespace lategrad
