/// A data set whose examples tell their own number.
#pragma once

#include <utility>
#include <vector>

#include "lategrad/data/dataset.h"

namespace lategrad {

/// Example i has the one feature i, and a label where labels are given; else the target i.
class NumberedData final : public Dataset {
  public:
    explicit NumberedData(std::size_t examples) {
        shape_ = {1};
        for (std::size_t i = 0; i < examples; ++i) targets_.push_back(static_cast<float>(i));
    }
    NumberedData(std::vector<std::int64_t> labels, std::int64_t classes) {
        shape_ = {1};
        classes_ = classes;
        labels_ = std::move(labels);
    }
    void gather(std::span<const std::uint32_t> indices, Batch& out) const override {
        out.examples = indices.size();
        out.features.assign(indices.begin(), indices.end());
    }
};

} // namespace lategrad
