/// Asynchronous SGD (Dean et al. 2012, Downpour): every gradient is an update, scaled so that it counts as it would in
/// a synchronous one.
#include "lategrad/policy/policies.h"

namespace lategrad {
namespace {

class Async final : public Policy {
  public:
    explicit Async(const PolicyOptions& options) : Policy(options, Normalize::workers) {}

  private:
    void on_arrived(const GradientArrived& gradient, Decision& out) override {
        accept(gradient, out);
        wait_for_publish(gradient.worker);
        close(Closers::all, out);
    }
};

} // namespace

std::unique_ptr<Policy> make_async(const PolicyOptions& options) {
    return std::make_unique<Async>(options);
}

} // namespace lategrad
