#include "lategrad/policy/policy.h"

#include <algorithm>
#include <tuple>

#include <fmt/format.h>

#include "lategrad/core/archive.h"
#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"
#include "lategrad/policy/policies.h"

namespace lategrad {
namespace {

template <class... Handlers>
struct Overloaded : Handlers... {
    using Handlers::operator()...;
};
template <class... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>; // clang 14 deduces none for an aggregate

} // namespace

void PolicyOptions::parse_kind(std::string_view spec) {
    bound = 0;
    if (spec == "sync" || spec == "backup" || spec == "reuse" || spec == "kasync" || spec == "kbatch" ||
        spec == "async") {
        kind = spec;
        return;
    }
    if (spec.starts_with("ssp:")) {
        if (const auto parsed = parse_number<std::uint64_t>(spec.substr(4))) {
            kind = "ssp";
            bound = *parsed;
            return;
        }
    }
    throw InputError(fmt::format(
        "--policy {}: expected sync, backup, reuse, kasync, kbatch, async or ssp:BOUND, as in ssp:3", spec));
}

void PolicyOptions::parse_normalize(std::string_view spec) {
    if (spec == "workers") normalize = Normalize::workers;
    else if (spec == "quorum") normalize = Normalize::quorum;
    else if (spec == "weights") normalize = Normalize::weights;
    else throw InputError(fmt::format("--normalize {}: expected workers, quorum or weights", spec));
}

Policy::Policy(const PolicyOptions& options, Normalize default_normalize)
    : options_(options),
      normalize_(options.normalize.value_or(default_normalize)),
      refunds_(options.kind != "backup") {
    CHECK(options.wait_for > 0);
}

void Policy::step(const PolicyEvent& event, Time /*now*/, Decision& out) {
    std::visit(Overloaded{
                   [&](const WorkerJoined& joined) {
                       CHECK(joined.examples > 0 && !is_active(joined.worker));
                       if (joined.worker.value() >= members_.size()) members_.resize(joined.worker.value() + 1);
                       Member& member = members_[joined.worker.value()];
                       member.active = true;
                       member.examples = joined.examples;
                       member.applied_through = version_; // `gradients` may count one held from before it left
                       const bool could_close = may_close();
                       ++active_;
                       active_examples_ += joined.examples;
                       if (joined.returns) on_returned(joined.worker, joined.computing, out);
                       else on_joined(joined.worker, out);
                       if (!could_close && may_close()) reconsider(out);
                   },
                   [&](const WorkerLeft& left) {
                       CHECK(is_active(left.worker));
                       Member& member = members_[left.worker.value()];
                       member.active = false;
                       --active_;
                       active_examples_ -= member.examples;
                       std::erase(waiting_, left.worker);
                       on_left(left.worker, out);
                   },
                   [&](const GradientArrived& gradient) {
                       CHECK(is_active(gradient.worker) && gradient.base <= version_);
                       // The version does not advance while a gradient is held, so this is also its staleness when it
                       // is applied.
                       if (options_.staleness_max && version_ - gradient.base > *options_.staleness_max) {
                           out.drop(Reason::too_stale);
                           on_dropped(gradient.worker, gradient.base, out);
                       } else {
                           on_arrived(gradient, out);
                       }
                   },
                   [&](const GradientRejected& rejected) {
                       CHECK(is_active(rejected.worker) && rejected.base <= version_);
                       out.drop(rejected.reason);
                       on_dropped(rejected.worker, rejected.base, out);
                   },
               },
               event);
}

void Policy::forget_workers() {
    for (Member& member : members_) member.active = false;
    active_ = 0;
    active_examples_ = 0;
    waiting_.clear();
    on_forget_workers();
}

void Policy::on_returned(WorkerId worker, bool computing, Decision& out) {
    const std::size_t sends = out.send.size();
    on_joined(worker, out);
    const bool waits = !computing && members_[worker.value()].gradients > 0;
    if (computing || waits) out.send.resize(sends);
    if (waits) wait_for_publish(worker);
}

void Policy::on_dropped(WorkerId worker, Version /*base*/, Decision& out) {
    out.send.push_back(worker);
}

void Policy::accept(const GradientArrived& gradient, Decision& out) {
    const bool is_fresh = fresh(gradient);
    out.hold(is_fresh ? Reason::fresh : Reason::late);
    accepted_fresh_ += is_fresh ? 1 : 0;
    Member& member = members_[gradient.worker.value()];
    ++member.gradients;
    accepted_.push_back({.worker = gradient.worker,
                         .step = gradient.step,
                         .base = gradient.base,
                         .examples = member.examples,
                         .weight = 1});
}

void Policy::close(Closers closers, Decision& out) {
    CHECK(!accepted_.empty());
    std::sort(accepted_.begin(), accepted_.end(), [](const AppliedGradient& a, const AppliedGradient& b) {
        return std::tie(a.worker, a.step) < std::tie(b.worker, b.step);
    });
    double fresh_examples = 0;
    double late_examples = 0;
    for (const AppliedGradient& gradient : accepted_)
        (gradient.base == version_ ? fresh_examples : late_examples) += gradient.examples;
    double weighted_examples = 0;
    for (AppliedGradient& gradient : accepted_) {
        const Member& member = members_[gradient.worker.value()];
        gradient.weight = options_.late_weight.of({.staleness = version_ - gradient.base,
                                                   .span_updates = version_.next() - member.applied_through,
                                                   .gradients = member.gradients,
                                                   .fresh_examples = fresh_examples,
                                                   .late_examples = late_examples});
        weighted_examples += gradient.weight * gradient.examples;
    }
    for (const AppliedGradient& gradient : accepted_) {
        Member& member = members_[gradient.worker.value()];
        member.applied_through = version_.next();
        member.gradients = 0;
    }
    switch (normalize_) {
    case Normalize::workers:
        // Who pushed and left is not among the active, and who came back may have pushed twice: the fresh ones' step
        // must still be lr at most.
        out.denominator = std::max(static_cast<double>(active_examples_), fresh_examples);
        break;
    case Normalize::quorum:
        out.denominator = closers == Closers::all ? fresh_examples + late_examples : fresh_examples;
        break;
    case Normalize::weights: out.denominator = weighted_examples; break;
    }
    out.closes = true;
    out.version = version_;
    out.applied.swap(accepted_);
    accepted_.clear();
    accepted_fresh_ = 0;
    version_ = version_.next();
    std::sort(waiting_.begin(), waiting_.end());
    out.send.insert(out.send.end(), waiting_.begin(), waiting_.end());
    waiting_.clear();
}

void Policy::persist(Archive& archive) {
    archive.section("policy");
    archive.expect(options_.kind, "--policy");
    archive(version_, members_, accepted_, waiting_);
    archive.require_count(version_.value(), "a version that no run reaches");
    active_ = 0;
    active_examples_ = 0;
    for (const Member& member : members_) {
        archive.require(member.applied_through <= version_, "a worker whose gradients were applied in the future");
        if (!member.active) continue;
        archive.require(member.examples > 0, "a worker without a batch");
        ++active_;
        active_examples_ += member.examples;
    }
    accepted_fresh_ = 0;
    std::vector<std::uint32_t> held(members_.size());
    for (const AppliedGradient& gradient : accepted_) {
        archive.require(gradient.worker.value() < members_.size() && gradient.base <= version_,
                        "a held gradient of nobody, or of the future");
        archive.require(gradient.examples > 0, "a held gradient of no examples");
        ++held[gradient.worker.value()];
        if (gradient.base == version_) ++accepted_fresh_;
    }
    for (std::size_t i = 0; i < members_.size(); ++i) {
        archive.require(members_[i].gradients == held[i], "other gradients are held than are counted");
    }
    for (const WorkerId worker : waiting_) archive.require(is_active(worker), "nobody waits for an update");
    on_persist(archive);
}

std::unique_ptr<Policy> make_policy(const PolicyOptions& options) {
    const bool always_fresh = options.kind == "sync" || options.kind == "backup" || options.kind == "reuse";
    if (options.late_weight.certified() && !always_fresh) {
        throw InputError(fmt::format("--late-weight certified goes with --policy sync, backup and reuse; an update of "
                                     "{} may have no fresh gradient to measure the late ones by",
                                     options.kind));
    }
    if (options.cancel_late && options.kind != "backup") {
        throw InputError(fmt::format(
            "--cancel-late goes with --policy backup; {} has a use for late gradients or waits for all", options.kind));
    }
    if (options.kind == "sync") return make_sync(options);
    if (options.kind == "backup") return make_backup(options);
    if (options.kind == "reuse") return make_reuse(options);
    if (options.kind == "kasync") return make_kasync(options);
    if (options.kind == "kbatch") return make_kbatch(options);
    if (options.kind == "async") return make_async(options);
    if (options.kind == "ssp") return make_ssp(options);
    throw InputError(
        fmt::format("--policy {}: expected sync, backup, reuse, kasync, kbatch, async or ssp:BOUND", options.kind));
}

} // namespace lategrad
