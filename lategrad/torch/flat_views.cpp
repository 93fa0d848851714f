#include "lategrad/torch/flat_views.h"

#include <algorithm>

#include "lategrad/core/error.h"
#include "lategrad/torch/network.h"

namespace lategrad {

namespace {

torch::Tensor view(float* flat, const FlatTensor& place) {
    return torch::from_blob(flat + place.first, place.shape, torch::kFloat32);
}

} // namespace

FlatViews::FlatViews(const Model& model) : model_(model) {
    for (const auto& [name, tensor] : model.network().parameters()) parameters_.push_back(tensor);
    gradients_.resize(parameters_.size());
}

void FlatViews::read(std::span<const float> params) {
    CHECK(params.size() == model_.size());
    if (params.data() != read_from_) {
        for (std::size_t i = 0; i < parameters_.size(); ++i)
            parameters_[i].set_data(view(const_cast<float*>(params.data()), model_.tensors()[i]));
        read_from_ = params.data();
    }
    if (model_.size() == model_.trainable()) return;
    const float* next = params.data() + model_.trainable();
    for (const auto& [name, buffer] : model_.network().buffers()) {
        const torch::NoGradGuard no_grad;
        const torch::Tensor source = torch::from_blob(const_cast<float*>(next), buffer.sizes(), torch::kFloat32);
        buffer.copy_(source);
        next += buffer.numel();
    }
}

void FlatViews::collect(std::span<float> grad) {
    CHECK(grad.size() == model_.size());
    std::fill_n(grad.data(), model_.trainable(), 0.0f);
    if (grad.data() == collected_in_) return;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
        gradients_[i] = view(grad.data(), model_.tensors()[i]);
        parameters_[i].mutable_grad() = gradients_[i];
    }
    collected_in_ = grad.data();
}

void FlatViews::complete(std::span<float> grad) {
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
        const torch::Tensor& collected = parameters_[i].grad();
        if (collected.data_ptr() == gradients_[i].data_ptr()) continue;
        // libtorch chose to replace the tensor instead of adding to it.
        gradients_[i].copy_(collected);
        collected_in_ = nullptr;
    }
    if (model_.size() == model_.trainable()) return;
    float* next = grad.data() + model_.trainable();
    for (const auto& [name, buffer] : model_.network().buffers()) {
        const torch::Tensor dense = buffer.detach().contiguous();
        next = std::copy_n(dense.data_ptr<float>(), dense.numel(), next);
    }
    CHECK(next == grad.data() + grad.size());
}

} // namespace lategrad
