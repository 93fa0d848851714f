#include "lategrad/torch/model.h"

#include <algorithm>
#include <mutex>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "lategrad/core/error.h"
#include "lategrad/torch/network.h"

namespace lategrad {

std::string shape_text(const std::vector<std::int64_t>& shape) {
    return fmt::format("({})", fmt::join(shape, ", "));
}

namespace {

/// libtorch reads through it; whoever passes it on says that nothing writes.
float* unconst(const float* values) {
    return const_cast<float*>(values);
}

} // namespace

torch::Tensor Model::Network::features(const Batch& batch) const {
    std::vector<std::int64_t> shape{static_cast<std::int64_t>(batch.examples)};
    shape.insert(shape.end(), shape_.begin(), shape_.end());
    return torch::from_blob(unconst(batch.features.data()), shape, torch::kFloat32);
}

torch::Tensor Model::Network::data_loss(const torch::Tensor& output, const Batch& batch) const {
    const auto examples = static_cast<std::int64_t>(batch.examples);
    if (classes_ == 0)
        return torch::mse_loss(output.reshape({examples}),
                               torch::from_blob(unconst(batch.targets.data()), {examples}, torch::kFloat32));
    return torch::cross_entropy_loss(
        output, torch::from_blob(const_cast<std::int64_t*>(batch.labels.data()), {examples}, torch::kInt64));
}

Model::Model(ModelSpec spec, std::unique_ptr<Network> network) : spec_(std::move(spec)), network_(std::move(network)) {
    const auto add = [&](const NamedTensors& named, bool trainable) {
        for (const auto& [name, tensor] : named) {
            const auto elements = static_cast<std::size_t>(tensor.numel());
            tensors_.push_back({name, tensor.sizes().vec(), size_, elements, trainable});
            size_ += elements;
        }
    };
    add(network_->parameters(), true);
    trainable_ = size_;
    add(network_->buffers(), false);
}

Model::~Model() = default;

void Model::initial_parameters(std::span<float> out) const {
    CHECK(out.size() == size_);
    float* next = out.data();
    const auto copy = [&](const NamedTensors& named) {
        for (const auto& [name, tensor] : named) {
            const torch::Tensor dense = tensor.detach().contiguous();
            next = std::copy_n(dense.data_ptr<float>(), dense.numel(), next);
        }
    };
    copy(network_->parameters());
    copy(network_->buffers());
}

std::string Model::hidden_state() const {
    return network_->hidden_state();
}

std::unique_ptr<Model> make_model(const ModelSpec& spec, const Dataset& train, std::uint64_t seed) {
    // The generator that layers draw their first parameters from is the process's.
    static std::mutex generator;
    const std::lock_guard lock(generator);
    torch::manual_seed(seed);
    auto network =
        spec.kind == ModelSpec::Kind::script ? make_script_network(spec, train) : make_native_network(spec, train);
    return std::unique_ptr<Model>(new Model(spec, std::move(network)));
}

} // namespace lategrad
