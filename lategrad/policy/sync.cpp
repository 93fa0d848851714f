/// Full synchronous SGD: an update waits for everybody.
#include "lategrad/core/archive.h"
#include "lategrad/core/error.h"
#include "lategrad/policy/policies.h"

namespace lategrad {
namespace {

class Sync final : public Policy {
  public:
    explicit Sync(const PolicyOptions& options) : Policy(options, Normalize::workers) {}

  private:
    void on_joined(WorkerId worker, Decision& out) override {
        arrived_.resize(members().size(), false);
        arrived_[worker.value()] = false;
        Policy::on_joined(worker, out);
    }

    void on_left(WorkerId worker, Decision& out) override {
        if (arrived_[worker.value()]) --arrived_count_;
        arrived_[worker.value()] = false;
        reconsider(out);
    }

    void on_returned(WorkerId worker, bool computing, Decision& out) override {
        Policy::on_returned(worker, computing, out);
        if (computing || members()[worker.value()].gradients == 0) return;
        arrived_[worker.value()] = true;
        ++arrived_count_;
    }

    void on_arrived(const GradientArrived& gradient, Decision& out) override {
        if (!fresh(gradient)) { // of a worker that the others have not waited for, because it was silent
            out.drop(Reason::late);
            on_dropped(gradient.worker, gradient.base, out);
            return;
        }
        accept(gradient, out);
        wait_for_publish(gradient.worker);
        arrived_[gradient.worker.value()] = true;
        ++arrived_count_;
        reconsider(out);
    }

    void on_forget_workers() override {
        arrived_.assign(arrived_.size(), false);
        arrived_count_ = 0;
    }

    void on_persist(Archive& archive) override {
        archive(arrived_);
        archive.require(arrived_.size() == members().size(), "as many workers arrive as there are");
        arrived_count_ = 0;
        for (std::uint32_t i = 0; i < arrived_.size(); ++i) {
            archive.require(!arrived_[i] || is_active(WorkerId{i}), "a gradient of a worker that is not there");
            if (arrived_[i]) ++arrived_count_;
        }
        archive.require(arrived_count_ <= accepted(), "more gradients have arrived than are held");
    }

    void reconsider(Decision& out) override {
        if (!may_close() || arrived_count_ < active()) return;
        close(Closers::fresh, out);
        arrived_.assign(arrived_.size(), false);
        arrived_count_ = 0;
    }

    std::vector<bool> arrived_; ///< by worker: active, and its fresh gradient is here
    std::size_t arrived_count_ = 0;
};

} // namespace

std::unique_ptr<Policy> make_sync(const PolicyOptions& options) {
    return std::make_unique<Sync>(options);
}

} // namespace lategrad
