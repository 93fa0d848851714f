#include "lategrad/torch/torch_gradient_source.h"

#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/torch/flat_views.h"
#include "lategrad/torch/libtorch.h"
#include "lategrad/torch/network.h"

namespace lategrad {

namespace {

class TorchGradientSource final : public GradientSource {
  public:
    TorchGradientSource(std::unique_ptr<Model> model, int intra_op_threads)
        : model_(std::move(model)),
          network_(model_->network()),
          views_(*model_),
          threads_(intra_op_threads) {
        network_.train(true);
    }

    std::size_t trainable() const override { return model_->trainable(); }
    std::size_t size() const override { return model_->size(); }

    Loss compute(std::span<const float> params, std::span<float> grad, const Batch& batch) override {
        try {
            use_threads(threads_);
            views_.read(params);
            views_.collect(grad);
            torch::Tensor loss = network_.data_loss(network_.forward(network_.features(batch)), batch);
            if (const torch::Tensor penalty = network_.penalty(); penalty.defined()) loss = loss + penalty;
            loss.backward();
            views_.complete(grad);
            return {.mean = loss.item<double>()};
        } catch (const std::exception& failure) {
            throw EnvironmentError(
                fmt::format("--model {}: libtorch failed: {}", model_->spec().text, one_line(failure)));
        }
    }

  private:
    std::unique_ptr<Model> model_;
    Model::Network& network_;
    FlatViews views_;
    int threads_;
};

} // namespace

std::unique_ptr<GradientSource> make_gradient_source(const ModelSpec& spec, const Dataset& train, int intra_op_threads,
                                                     std::uint64_t seed) {
    CHECK(intra_op_threads > 0);
    return std::make_unique<TorchGradientSource>(make_model(spec, train, seed), intra_op_threads);
}

} // namespace lategrad
