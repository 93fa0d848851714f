/// A batch of examples, as a gradient source reads it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lategrad {

/// `examples` rows. Features are float32, row-major, each of the data set's example shape (C, H, W or D). A row has
/// either a class in `labels` or a number in `targets`; the other one is empty.
struct Batch {
    std::size_t examples = 0;
    std::vector<float> features;
    std::vector<std::int64_t> labels;
    std::vector<float> targets;
};

} // namespace lategrad
