#include "lategrad/torch/evaluator.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/torch/flat_views.h"
#include "lategrad/torch/libtorch.h"
#include "lategrad/torch/network.h"

namespace lategrad {

namespace {
constexpr std::size_t kChunk = 500;
}

struct TorchEvaluator::State {
    std::unique_ptr<Model> model;
    FlatViews views;
    int threads;
    Batch batch = {};
    std::vector<std::uint32_t> indices = {};

    std::optional<Score> evaluate(std::span<const float> params, const Dataset& data,
                                  const std::function<bool()>& given_up);
};

TorchEvaluator::TorchEvaluator(const ModelSpec& spec, const Dataset& train, int intra_op_threads) {
    CHECK(intra_op_threads > 0);
    auto model = make_model(spec, train, 1);
    model->network().train(false);
    FlatViews views(*model);
    state_.reset(new State{std::move(model), std::move(views), intra_op_threads});
}

TorchEvaluator::~TorchEvaluator() = default;

Score TorchEvaluator::evaluate(std::span<const float> params, const Dataset& data) {
    return *evaluate(params, data, [] { return false; });
}

std::optional<Score> TorchEvaluator::evaluate(std::span<const float> params, const Dataset& data,
                                              const std::function<bool()>& given_up) {
    try {
        return state_->evaluate(params, data, given_up);
    } catch (const std::exception& failure) {
        throw EnvironmentError(
            fmt::format("--model {}: libtorch failed: {}", state_->model->spec().text, one_line(failure)));
    }
}

std::optional<Score> TorchEvaluator::State::evaluate(std::span<const float> params, const Dataset& data,
                                                     const std::function<bool()>& given_up) {
    CHECK(data.size() > 0);
    const torch::NoGradGuard no_grad;
    Model::Network& network = model->network();
    use_threads(threads);
    views.read(params);

    double loss_sum = 0;
    std::int64_t right = 0;
    for (std::size_t first = 0; first < data.size(); first += kChunk) {
        if (given_up()) return std::nullopt;
        indices.resize(std::min(kChunk, data.size() - first));
        std::iota(indices.begin(), indices.end(), static_cast<std::uint32_t>(first));
        data.gather(indices, batch);
        const torch::Tensor output = network.forward(network.features(batch));
        loss_sum += network.data_loss(output, batch).item<double>() * static_cast<double>(batch.examples);
        if (network.classes() == 0) continue;
        const torch::Tensor guesses = output.argmax(1).contiguous();
        const std::int64_t* guess = guesses.data_ptr<std::int64_t>();
        for (const std::int64_t label : batch.labels) right += *guess++ == label;
    }

    const auto examples = static_cast<double>(data.size());
    Score result{.loss = loss_sum / examples, .accuracy = std::nullopt};
    if (const torch::Tensor penalty = network.penalty(); penalty.defined()) result.loss += penalty.item<double>();
    if (network.classes() > 0) result.accuracy = static_cast<double>(right) / examples;
    return result;
}

} // namespace lategrad
