#include "lategrad/torch/weights.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "lategrad/core/error.h"
#include "lategrad/files/safetensors.h"

namespace lategrad {

namespace {

std::string text(const std::vector<std::int64_t>& shape) {
    return fmt::format("({})", fmt::join(shape, ", "));
}

void check_same_model(const SafetensorsFile& file, const Model& model) {
    const auto refuse = [&](const std::string& difference) {
        throw InputError(fmt::format("{}: weights of another model than --model {}: {}", file.path().string(),
                                     model.spec().text, difference));
    };
    for (const FlatTensor& tensor : model.tensors()) {
        const auto found = file.tensors().find(tensor.name);
        if (found == file.tensors().end())
            refuse(fmt::format("the file has no {} {}", tensor.name, text(tensor.shape)));
        if (found->second.shape != tensor.shape)
            refuse(fmt::format("{} is {} in the file and {} in the model", tensor.name, text(found->second.shape),
                               text(tensor.shape)));
    }
    for (const auto& [name, entry] : file.tensors()) {
        const auto is_it = [&](const FlatTensor& tensor) { return tensor.name == name; };
        if (std::none_of(model.tensors().begin(), model.tensors().end(), is_it))
            refuse(fmt::format("the model has no {} {}", name, text(entry.shape)));
    }
}

} // namespace

std::vector<TensorView> weight_views(const Model& model, std::span<const float> params) {
    CHECK(params.size() == model.size());
    std::vector<TensorView> views;
    for (const FlatTensor& tensor : model.tensors())
        views.push_back({tensor.name, tensor.shape, params.subspan(tensor.first, tensor.elements)});
    return views;
}

void save_weights(const std::filesystem::path& path, const Model& model, std::span<const float> params, Version version,
                  std::map<std::string, std::string> metadata) {
    metadata["format"] = "lategrad";
    metadata["model"] = model.spec().text;
    metadata["version"] = std::to_string(version.value());
    write_safetensors(path, weight_views(model, params), metadata);
}

std::vector<float> load_weights(const std::filesystem::path& path, const Model& model) {
    const SafetensorsFile file(path);
    check_same_model(file, model);
    std::vector<float> params;
    params.reserve(model.size());
    for (const FlatTensor& tensor : model.tensors()) {
        const std::vector<float> values = file.floats(tensor.name);
        params.insert(params.end(), values.begin(), values.end());
    }
    return params;
}

} // namespace lategrad
