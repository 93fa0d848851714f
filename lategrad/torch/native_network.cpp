#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/torch/network.h"

namespace lategrad {

namespace {

namespace nn = torch::nn;

constexpr std::int64_t kLenetSideMin = 16; // 16 → 12 → 6 → 2 → 1

class NativeNetwork final : public Model::Network {
  public:
    /// `decay`: the loss's weight of ‖w‖².
    NativeNetwork(const Dataset& train, nn::Sequential layers, double decay = 0)
        : Network(train),
          layers_(std::move(layers)),
          decay_(decay) {}

    torch::Tensor forward(const torch::Tensor& features) override { return layers_->forward(features); }
    void train(bool on) override { layers_->train(on); }
    NamedTensors parameters() const override {
        NamedTensors tensors;
        for (const auto& item : layers_->named_parameters()) tensors.emplace_back(item.key(), item.value());
        return tensors;
    }
    NamedTensors buffers() const override { return {}; }
    torch::Tensor penalty() const override {
        if (decay_ == 0) return {};
        return layers_->parameters().front().square().sum() * decay_;
    }

  private:
    nn::Sequential layers_;
    double decay_;
};

nn::Sequential lenet(const ModelSpec& spec, const Dataset& train, std::int64_t outputs) {
    const auto& shape = train.shape();
    if (shape.size() != 3 || shape[1] < kLenetSideMin || shape[2] < kLenetSideMin)
        throw InputError(
            fmt::format("--model {}: needs images of {}×{} or more, but an example of --data has the shape "
                        "{}; use mlp",
                        spec.text, kLenetSideMin, kLenetSideMin, shape_text(shape)));
    const auto pooled = [](std::int64_t side) { return (side - 4) / 2; };
    const std::int64_t features = 50 * pooled(pooled(shape[1])) * pooled(pooled(shape[2]));
    nn::Sequential layers;
    layers->push_back("conv1", nn::Conv2d(nn::Conv2dOptions(shape[0], 20, 5)));
    layers->push_back("pool1", nn::MaxPool2d(2));
    layers->push_back("relu1", nn::ReLU());
    layers->push_back("conv2", nn::Conv2d(nn::Conv2dOptions(20, 50, 5)));
    layers->push_back("pool2", nn::MaxPool2d(2));
    layers->push_back("relu2", nn::ReLU());
    layers->push_back("flatten", nn::Flatten());
    layers->push_back("fc1", nn::Linear(features, 500));
    layers->push_back("relu3", nn::ReLU());
    layers->push_back("fc2", nn::Linear(500, outputs));
    return layers;
}

nn::Sequential mlp(const std::vector<std::int64_t>& hidden, std::int64_t inputs, std::int64_t outputs) {
    nn::Sequential layers;
    layers->push_back("flatten", nn::Flatten());
    std::size_t number = 1;
    for (const std::int64_t width : hidden) {
        layers->push_back(fmt::format("fc{}", number), nn::Linear(inputs, width));
        layers->push_back(fmt::format("relu{}", number), nn::ReLU());
        inputs = width;
        ++number;
    }
    layers->push_back(fmt::format("fc{}", number), nn::Linear(inputs, outputs));
    return layers;
}

nn::Sequential ridge(std::int64_t inputs) {
    nn::Linear linear(nn::LinearOptions(inputs, 1).bias(false));
    linear->weight.detach().zero_();
    nn::Sequential layers;
    layers->push_back("flatten", nn::Flatten());
    layers->push_back("fc1", linear);
    return layers;
}

} // namespace

std::unique_ptr<Model::Network> make_native_network(const ModelSpec& spec, const Dataset& train) {
    const bool regression = train.classes() == 0;
    if (spec.kind == ModelSpec::Kind::ridge && !regression)
        throw InputError(fmt::format("--model {}: needs a regression problem, but --data has {} classes; use logistic, "
                                     "mlp or lenet",
                                     spec.text, train.classes()));
    if (spec.kind == ModelSpec::Kind::logistic && regression)
        throw InputError(
            fmt::format("--model {}: needs classes, but --data is a regression problem; use ridge or mlp", spec.text));

    const auto inputs = static_cast<std::int64_t>(train.features());
    const std::int64_t outputs = regression ? 1 : train.classes();
    switch (spec.kind) {
    case ModelSpec::Kind::lenet: return std::make_unique<NativeNetwork>(train, lenet(spec, train, outputs));
    case ModelSpec::Kind::mlp: return std::make_unique<NativeNetwork>(train, mlp(spec.hidden, inputs, outputs));
    case ModelSpec::Kind::logistic: return std::make_unique<NativeNetwork>(train, mlp({}, inputs, outputs));
    case ModelSpec::Kind::ridge:
        return std::make_unique<NativeNetwork>(train, ridge(inputs), spec.eta / static_cast<double>(train.size()));
    case ModelSpec::Kind::script: break;
    }
    CHECK(!"a native model");
    return nullptr;
}

} // namespace lategrad
