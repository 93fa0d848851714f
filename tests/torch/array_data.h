/// Small data sets made from a seed, and flat vectors as the program leases them.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "lategrad/core/buffer.h"
#include "lategrad/core/random.h"
#include "lategrad/data/dataset.h"

namespace lategrad {

class ArrayData final : public Dataset {
  public:
    /// Features uniform in [-1, 1). Labels in turn; targets uniform where `classes` is 0.
    ArrayData(std::size_t size, std::vector<std::int64_t> shape, std::int64_t classes, std::uint64_t seed = 1) {
        RandomStream random(seed, Purpose::test);
        const auto draw = [&] { return static_cast<float>(2 * random.uniform() - 1); };
        shape_ = std::move(shape);
        classes_ = classes;
        width_ = std::accumulate(shape_.begin(), shape_.end(), std::size_t{1}, std::multiplies<>());
        values_.resize(size * width_);
        std::generate(values_.begin(), values_.end(), draw);
        for (std::size_t i = 0; i < size; ++i) {
            if (classes > 0) labels_.push_back(static_cast<std::int64_t>(i) % classes);
            else targets_.push_back(draw());
        }
    }

    void gather(std::span<const std::uint32_t> indices, Batch& out) const override {
        out = {.examples = indices.size(), .features = {}, .labels = {}, .targets = {}};
        for (const std::uint32_t i : indices) {
            out.features.insert(out.features.end(), values_.begin() + i * width_, values_.begin() + (i + 1) * width_);
            if (classes_ > 0) out.labels.push_back(labels_[i]);
            else out.targets.push_back(targets_[i]);
        }
    }

    /// `count` examples from `first` on.
    Batch batch(std::uint32_t first, std::size_t count) const {
        std::vector<std::uint32_t> indices(count);
        std::iota(indices.begin(), indices.end(), first);
        Batch out;
        gather(indices, out);
        return out;
    }

    std::span<const float> values() const { return values_; }

  private:
    std::size_t width_ = 0;
    std::vector<float> values_;
};

/// Aligned as buffers are; filled with `value`.
inline Buffer flat(std::size_t floats, float value = 0) {
    BufferPool pool(std::size_t{1} << 30);
    Buffer buffer = pool.lease(floats * sizeof(float));
    std::ranges::fill(buffer.floats(), value);
    return buffer;
}

inline std::vector<float> values(const Buffer& buffer) {
    return {buffer.floats().begin(), buffer.floats().end()};
}

} // namespace lategrad
