/// K-batch-async SGD (Dutta et al. 2018, "Slow and Stale Gradients Can Win the Race", §2): any k gradients close an
/// update, however stale and several of one worker too, because nobody waits for it.
#include "lategrad/policy/policies.h"

namespace lategrad {
namespace {

class KBatch final : public Policy {
  public:
    explicit KBatch(const PolicyOptions& options) : Policy(options, Normalize::quorum) {}

  private:
    void reconsider(Decision& out) override { close_if_quorum(out); }

    void on_arrived(const GradientArrived& gradient, Decision& out) override {
        accept(gradient, out);
        out.send.push_back(gradient.worker); // at once; by the gradient that closes: the version it makes
        close_if_quorum(out);
    }

    void close_if_quorum(Decision& out) {
        if (may_close() && accepted() >= quorum()) close(Closers::all, out);
    }
};

} // namespace

std::unique_ptr<Policy> make_kbatch(const PolicyOptions& options) {
    return std::make_unique<KBatch>(options);
}

} // namespace lategrad
