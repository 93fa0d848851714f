/// The user's own arrays: rows of floats with a class or a number each.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lategrad/data/dataset.h"
#include "lategrad/files/safetensors.h"

namespace lategrad {

struct Rows {
    std::vector<std::int64_t> shape;  ///< of one row
    std::vector<float> features;      ///< finite
    bool classification = false;      ///< which of the two below is used
    std::vector<std::int64_t> labels; ///< in [0, 1,000,000)
    std::vector<float> targets;       ///< finite
    std::size_t size() const { return classification ? labels.size() : targets.size(); }
};

/// The tensors `x` [N, …] of numbers and `y` [N] of integers (classes) or floats (targets), N > 0. Throws InputError
/// naming the file, the tensor and the row.
Rows read_rows(const SafetensorsFile& file, const std::string& x, const std::string& y);

/// Features as given, not normalised. REQUIRES: labels < classes; classes is 0 for regression.
std::shared_ptr<const Dataset> make_array_dataset(Rows rows, std::int64_t classes);

} // namespace lategrad
