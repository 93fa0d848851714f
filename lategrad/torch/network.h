/// What libtorch computes. Internal to this folder: includes libtorch.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lategrad/torch/model.h"
#include "lategrad/torch/torch_headers.h"

namespace lategrad {

using NamedTensors = std::vector<std::pair<std::string, torch::Tensor>>;

/// A module and its loss. One thread at a time.
class Model::Network {
  public:
    /// The loss is that of `train`: its kind of problem and, for ridge, its number of rows.
    explicit Network(const Dataset& train) : shape_(train.shape()), classes_(train.classes()) {}
    virtual ~Network() = default;

    virtual torch::Tensor forward(const torch::Tensor& features) = 0;
    virtual void train(bool on) = 0;
    virtual NamedTensors parameters() const = 0;            ///< trainable ones
    virtual NamedTensors buffers() const = 0;               ///< float32 ones; a script may replace them in forward
    virtual std::string hidden_state() const { return {}; } ///< see Model
    /// What the loss adds to the mean over examples; an undefined tensor for nothing.
    virtual torch::Tensor penalty() const { return {}; }

    std::int64_t classes() const { return classes_; }
    /// A view of the batch's features.
    torch::Tensor features(const Batch& batch) const;
    /// Mean over the examples, without the penalty.
    torch::Tensor data_loss(const torch::Tensor& output, const Batch& batch) const;

  private:
    std::vector<std::int64_t> shape_;
    std::int64_t classes_;
};

std::unique_ptr<Model::Network> make_native_network(const ModelSpec& spec, const Dataset& train);
/// Loads the file and tries it on two examples.
std::unique_ptr<Model::Network> make_script_network(const ModelSpec& spec, const Dataset& train);

/// "(1, 28, 28)"
std::string shape_text(const std::vector<std::int64_t>& shape);

} // namespace lategrad
