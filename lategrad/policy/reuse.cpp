/// What this project exists for: the k fastest of n close an update, and gradients that came later than that are held
/// and join the next one.
#include "lategrad/policy/policies.h"

namespace lategrad {
namespace {

class Reuse final : public Policy {
  public:
    explicit Reuse(const PolicyOptions& options) : Policy(options, Normalize::workers) {}

  private:
    void reconsider(Decision& out) override { close_if_quorum(out); }

    void on_arrived(const GradientArrived& gradient, Decision& out) override {
        accept(gradient, out);
        if (fresh(gradient)) {
            wait_for_publish(gradient.worker);
            close_if_quorum(out);
        } else {
            out.send.push_back(gradient.worker); // at once, so that its next gradient can be fresh
        }
    }

    void close_if_quorum(Decision& out) {
        if (may_close() && accepted_fresh() >= quorum()) close(Closers::fresh, out);
    }
};

} // namespace

std::unique_ptr<Policy> make_reuse(const PolicyOptions& options) {
    return std::make_unique<Reuse>(options);
}

} // namespace lategrad
