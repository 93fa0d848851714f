/// K-async SGD (Dutta et al. 2018, "Slow and Stale Gradients Can Win the Race", §2): any k gradients close an update,
/// however stale.
#include "lategrad/policy/policies.h"

namespace lategrad {
namespace {

class KAsync final : public Policy {
  public:
    explicit KAsync(const PolicyOptions& options) : Policy(options, Normalize::quorum) {}

  private:
    void reconsider(Decision& out) override { close_if_quorum(out); }

    void on_arrived(const GradientArrived& gradient, Decision& out) override {
        accept(gradient, out);
        wait_for_publish(gradient.worker);
        close_if_quorum(out);
    }

    void close_if_quorum(Decision& out) {
        if (may_close() && accepted() >= quorum()) close(Closers::all, out);
    }
};

} // namespace

std::unique_ptr<Policy> make_kasync(const PolicyOptions& options) {
    return std::make_unique<KAsync>(options);
}

} // namespace lategrad
