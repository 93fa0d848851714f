/// Backup workers (Chen et al. 2016, "Revisiting Distributed Synchronous SGD", algorithm 4): the k fastest of n close
/// an update, and what arrives later is forgotten.
#include <algorithm>
#include <vector>

#include "lategrad/core/archive.h"
#include "lategrad/policy/policies.h"

namespace lategrad {
namespace {

class Backup final : public Policy {
  public:
    explicit Backup(const PolicyOptions& options) : Policy(options, Normalize::quorum) {}

  private:
    void on_left(WorkerId worker, Decision& out) override {
        left_at_.resize(members().size());
        left_at_[worker.value()] = version();
        reconsider(out);
    }

    void on_returned(WorkerId worker, bool computing, Decision& out) override {
        Policy::on_returned(worker, computing, out);
        // It was not among those that started anew at the updates since.
        if (!computing || !options().cancel_late || left_at_[worker.value()] == version()) return;
        out.send.push_back(worker);
        out.cancel.push_back(worker);
    }

    void reconsider(Decision& out) override { close_if_quorum(out); }

    void on_arrived(const GradientArrived& gradient, Decision& out) override {
        if (!fresh(gradient)) {
            out.drop(Reason::late);
            on_dropped(gradient.worker, gradient.base, out);
            return;
        }
        accept(gradient, out);
        wait_for_publish(gradient.worker);
        close_if_quorum(out);
    }

    void on_dropped(WorkerId worker, Version base, Decision& out) override {
        // With --cancel-late its next gradient was started when it became late; this one crossed the cancellation.
        const bool crossed = options().cancel_late && base < version();
        if (!crossed) out.send.push_back(worker);
    }

    void close_if_quorum(Decision& out) {
        if (!may_close() || accepted_fresh() < quorum()) return;
        close(Closers::fresh, out);
        if (!options().cancel_late) return;
        const auto waited = static_cast<std::ptrdiff_t>(out.send.size());
        for (std::uint32_t i = 0; i < members().size(); ++i) {
            const bool pushed = std::binary_search(out.send.begin(), out.send.begin() + waited, WorkerId{i});
            if (members()[i].active && !pushed) out.cancel.push_back(WorkerId{i});
        }
        out.send.insert(out.send.end(), out.cancel.begin(), out.cancel.end());
    }

    void on_persist(Archive& archive) override {
        archive(left_at_);
        archive.require(left_at_.size() <= members().size(), "more workers have left than there are");
        left_at_.resize(members().size());
    }

    std::vector<Version> left_at_; ///< by worker: the version at which it left last
};

} // namespace

std::unique_ptr<Policy> make_backup(const PolicyOptions& options) {
    return std::make_unique<Backup>(options);
}

} // namespace lategrad
