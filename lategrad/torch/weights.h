/// Parameters as a safetensors file, under the names PyTorch gives them.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "lategrad/core/ids.h"
#include "lategrad/files/safetensors.h"
#include "lategrad/torch/model.h"

namespace lategrad {

/// Writes every tensor of the flat vector (parameters and float buffers) by its name, and the metadata format=lategrad,
/// model and version besides `metadata`. Throws EnvironmentError naming the file.
/// REQUIRES: params.size() == model.size().
void save_weights(const std::filesystem::path& path, const Model& model, std::span<const float> params, Version version,
                  std::map<std::string, std::string> metadata = {});

/// Every tensor of the flat vector by its name. REQUIRES: params.size() == model.size().
std::vector<TensorView> weight_views(const Model& model, std::span<const float> params);

/// Throws InputError naming the file and the first tensor that is missing, of another shape or not the model's.
std::vector<float> load_weights(const std::filesystem::path& path, const Model& model);

} // namespace lategrad
