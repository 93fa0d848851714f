/// A model's tensors as views of flat vectors. Internal to this folder: includes libtorch.
#pragma once

#include <span>
#include <vector>

#include "lategrad/torch/model.h"
#include "lategrad/torch/torch_headers.h"

namespace lategrad {

/// Points the parameters of a model, and their `.grad`, into the caller's memory, and copies its buffers from and to
/// it.
class FlatViews {
  public:
    explicit FlatViews(const Model& model);

    /// The model's parameters are now those of `params`, read where they lie, and its buffers copies of the tail.
    /// libtorch must not write to parameters; `params` must live for as long as the model computes.
    void read(std::span<const float> params);

    /// Backward now adds to `grad`, whose trainable part is set to 0.
    void collect(std::span<float> grad);

    /// After backward: `grad` is complete, with the model's buffers in the tail.
    void complete(std::span<float> grad);

  private:
    const Model& model_;
    std::vector<torch::Tensor> parameters_;
    std::vector<torch::Tensor> gradients_;
    const float* read_from_ = nullptr;
    float* collected_in_ = nullptr;
};

} // namespace lategrad
