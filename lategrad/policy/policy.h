/// Policies: which gradients an update waits for, which it applies, what becomes of late ones, and who gets the new
/// parameters. A policy decides and never does: an event goes in, a decision comes out. It sees no floats of gradients,
/// reads no clock, does no I/O and knows no threads. docs/policies.md states each rule with its source.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "lategrad/core/fate.h"
#include "lategrad/core/gradient.h"
#include "lategrad/core/ids.h"
#include "lategrad/core/time.h"
#include "lategrad/policy/late_weight.h"

namespace lategrad {

class Archive;

/// What an update is divided by (D of the update rule), in examples.
enum class Normalize {
    workers, ///< Σ b over the active workers: each gradient counts once
    quorum,  ///< Σ b over the gradients that closed the update (Chen et al. 2016)
    weights, ///< Σ s·b over the applied gradients
};

struct PolicyOptions {
    std::string kind = "reuse";         ///< sync, backup, reuse, kasync, kbatch, async, ssp
    std::uint64_t bound = 0;            ///< ssp
    std::size_t wait_for = 1;           ///< k: backup, reuse, kasync, kbatch
    bool cancel_late = false;           ///< backup: at each update the late workers start anew
    LateWeight late_weight;             ///< s
    std::optional<Normalize> normalize; ///< empty: the policy's own (docs/policies.md)
    std::optional<std::uint64_t> staleness_max;
    std::size_t workers_min = 1; ///< with fewer active no update closes

    /// True where an update waits for wait_for gradients: not for all (sync), nor for any one (async, ssp).
    bool has_quorum() const { return kind == "backup" || kind == "reuse" || kind == "kasync" || kind == "kbatch"; }
    /// The most gradients of one worker that wait for an update.
    std::size_t held_of_one_worker_max() const { return kind == "kbatch" ? wait_for : 1; }

    /// `--policy` and its `:BOUND`, into kind and bound. Throws InputError.
    void parse_kind(std::string_view spec);
    /// `--normalize`. Throws InputError.
    void parse_normalize(std::string_view spec);
};

struct WorkerJoined {
    WorkerId worker;
    std::uint32_t examples; ///< b, fixed until it leaves
    bool returns = false;   ///< it left because it was silent, and is heard again; what it was doing goes on
    bool computing = false; ///< `returns`: a gradient that it was sent to compute has not arrived yet
};

struct WorkerLeft {
    WorkerId worker;
};

struct GradientArrived {
    WorkerId worker;
    Step step;
    Version base;
};

/// A gradient arrived that must not be used; the policy only decides how its worker goes on.
struct GradientRejected {
    WorkerId worker;
    Version base;
    Reason reason;
};

using PolicyEvent = std::variant<WorkerJoined, WorkerLeft, GradientArrived, GradientRejected>;

/// What a policy wants. Reused from step to step: `clear` keeps the memory.
struct Decision {
    /// The arrived gradient: hold (it joins this or a coming update) or drop.
    Fate fate = Fate::hold;
    Reason reason = Reason::none;

    bool closes = false;                  ///< the update of `version` closes now, and becomes version + 1
    Version version;                      ///< that is updated
    std::vector<AppliedGradient> applied; ///< in (worker, step) order
    double denominator = 0;               ///< D

    /// Who is sent parameters, to start a gradient: the new version where an update closes, else the current one.
    std::vector<WorkerId> send;
    /// Who of those gives up the gradient it is computing; ascending.
    std::vector<WorkerId> cancel;

    void drop(Reason why) {
        fate = Fate::drop;
        reason = why;
    }
    void hold(Reason why) {
        fate = Fate::hold;
        reason = why;
    }
    void clear() {
        fate = Fate::hold;
        reason = Reason::none;
        closes = false;
        applied.clear();
        denominator = 0;
        send.clear();
        cancel.clear();
    }
};

/// The machinery every policy shares: members, versions, weights and the closing of an update. A policy is one file
/// that says when an update closes and who is sent what.
class Policy {
  public:
    Policy(const PolicyOptions& options, Normalize default_normalize);
    virtual ~Policy() = default;

    /// REQUIRES: `out` is clear; worker ids are small and dense; only members push.
    void step(const PolicyEvent& event, Time now, Decision& out);

    /// As if all had left, but no update closes of that: those who know the workers are gone themselves. What is held
    /// stays.
    void forget_workers();

    /// Of the parameters that a worker sent to now would get.
    Version version() const { return version_; }
    std::size_t active() const { return active_; }
    /// Whether enough workers are active for an update to close; at least workers_min, and one.
    bool may_close() const { return active_ > 0 && active_ >= options_.workers_min; }
    std::size_t workers_min() const { return options_.workers_min; }
    /// Whether a gradient of this fate may join its worker's residual again (error feedback). What backup drops is
    /// gone: to forget is its meaning; what is not finite or malformed must not come back.
    bool refunds(Fate fate, Reason reason) const {
        return refunds_ && fate == Fate::drop && (reason == Reason::late || reason == Reason::too_stale);
    }
    /// Gradients held for the coming update.
    std::size_t held() const { return accepted_.size(); }
    const std::vector<AppliedGradient>& held_gradients() const { return accepted_; }
    /// Workers that it has met: their ids are below.
    std::size_t workers() const { return members_.size(); }

    /// All that it knows, for a policy of the same kind; the other options may differ.
    void persist(Archive& archive);

  protected:
    struct Member {
        bool active = false;
        std::uint32_t examples = 0;
        Version applied_through;     ///< the version that the last update with a gradient of this worker made
        std::uint32_t gradients = 0; ///< of this worker in the update that closes

        template <class A>
        void archive(A& archive) {
            archive(active, examples, applied_through, gradients);
        }
    };

    virtual void on_joined(WorkerId worker, Decision& out) { out.send.push_back(worker); }
    /// It goes on where it was: with the gradient it computes, or waiting for the update that its last one is held for.
    virtual void on_returned(WorkerId worker, bool computing, Decision& out);
    virtual void on_left(WorkerId /*worker*/, Decision& out) { reconsider(out); }
    /// Fewer are active, or enough again for an update to close: closes one where what is accepted suffices.
    virtual void reconsider(Decision& /*out*/) {}
    virtual void on_arrived(const GradientArrived& gradient, Decision& out) = 0;
    /// The worker's gradient on `base` was dropped before on_arrived saw it; by default it is sent the current
    /// parameters at once.
    virtual void on_dropped(WorkerId worker, Version base, Decision& out);
    virtual void on_forget_workers() {}
    /// What this policy knows beside what all know, which is read already.
    virtual void on_persist(Archive& /*archive*/) {}

    bool fresh(const GradientArrived& gradient) const { return gradient.base == version_; }
    /// k, or all that are alive where these are fewer. Zero when nobody is.
    std::size_t quorum() const { return options_.wait_for < active_ ? options_.wait_for : active_; }
    bool is_active(WorkerId worker) const {
        return worker.value() < members_.size() && members_[worker.value()].active;
    }
    const std::vector<Member>& members() const { return members_; }
    const PolicyOptions& options() const { return options_; }

    /// Takes the gradient into the coming update.
    void accept(const GradientArrived& gradient, Decision& out);
    /// Accepted gradients whose base is the current version.
    std::size_t accepted_fresh() const { return accepted_fresh_; }
    std::size_t accepted() const { return accepted_.size(); }
    /// Which of the accepted gradients closed the update: D of `--normalize quorum` is theirs.
    enum class Closers { fresh, all };
    /// Closes the update over everything accepted, and sends to those who wait for it. REQUIRES: accepted() > 0.
    void close(Closers closers, Decision& out);
    /// This worker is sent the parameters that the coming update makes.
    void wait_for_publish(WorkerId worker) { waiting_.push_back(worker); }

  private:
    PolicyOptions options_;
    Normalize normalize_;
    bool refunds_;
    Version version_;
    std::size_t active_ = 0;
    std::uint64_t active_examples_ = 0;
    std::vector<Member> members_;
    std::vector<AppliedGradient> accepted_;
    std::size_t accepted_fresh_ = 0;
    std::vector<WorkerId> waiting_;
};

/// Throws InputError for an option that contradicts the policy.
std::unique_ptr<Policy> make_policy(const PolicyOptions& options);

} // namespace lategrad
