/// Stale synchronous parallel (Ho et al. 2013, §2): every gradient is an update, but nobody runs more than BOUND steps
/// ahead of the slowest living worker.
#include <algorithm>
#include <map>

#include "lategrad/core/archive.h"
#include "lategrad/policy/policies.h"

namespace lategrad {
namespace {

class Ssp final : public Policy {
  public:
    explicit Ssp(const PolicyOptions& options) : Policy(options, Normalize::workers) {}

  private:
    void on_joined(WorkerId worker, Decision& out) override {
        clocks_.resize(members().size(), 0);
        // At the smallest living step: a newcomer neither holds the others back nor runs ahead.
        clocks_[worker.value()] = living_.empty() ? 0 : living_.begin()->first;
        ++living_[clocks_[worker.value()]];
        Policy::on_joined(worker, out);
    }

    void on_left(WorkerId worker, Decision& out) override {
        leave_clock(clocks_[worker.value()]);
        std::erase(blocked_, worker);
        release(out);
    }

    void on_arrived(const GradientArrived& gradient, Decision& out) override {
        accept(gradient, out);
        close(Closers::all, out);
        on_dropped(gradient.worker, gradient.base, out);
    }

    /// Applied or dropped, the worker has made its step: it goes on when the slowest allows.
    void on_dropped(WorkerId worker, Version /*base*/, Decision& out) override {
        const std::uint64_t slowest = living_.begin()->first;
        leave_clock(clocks_[worker.value()]);
        ++living_[++clocks_[worker.value()]];
        if (clocks_[worker.value()] <= limit()) out.send.push_back(worker);
        else blocked_.push_back(worker);
        if (living_.begin()->first != slowest) release(out);
    }

    void on_persist(Archive& archive) override {
        archive(clocks_, blocked_);
        archive.require(clocks_.size() == members().size(), "as many clocks as workers");
        living_.clear();
        for (std::uint32_t i = 0; i < clocks_.size(); ++i) {
            if (is_active(WorkerId{i})) ++living_[clocks_[i]];
        }
        for (const WorkerId worker : blocked_) archive.require(is_active(worker), "a blocked worker is not there");
    }

    void on_forget_workers() override {
        living_.clear();
        blocked_.clear();
    }

    std::uint64_t limit() const { return living_.begin()->first + options().bound; }

    void leave_clock(std::uint64_t clock) {
        const auto it = living_.find(clock);
        if (--it->second == 0) living_.erase(it);
    }

    /// Sends to all that the slowest, having moved, allows on.
    void release(Decision& out) {
        if (living_.empty()) return;
        std::sort(blocked_.begin(), blocked_.end());
        std::erase_if(blocked_, [&](WorkerId worker) {
            if (clocks_[worker.value()] > limit()) return false;
            out.send.push_back(worker);
            return true;
        });
    }

    std::vector<std::uint64_t> clocks_;             ///< steps made, by worker
    std::map<std::uint64_t, std::uint32_t> living_; ///< how many active workers are at a step
    std::vector<WorkerId> blocked_;                 ///< pushed, and not sent to since
};

} // namespace

std::unique_ptr<Policy> make_ssp(const PolicyOptions& options) {
    return std::make_unique<Ssp>(options);
}

} // namespace lategrad
