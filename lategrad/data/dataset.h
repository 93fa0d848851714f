/// Data sets: examples in memory, loaded once and shared, read-only, by every worker of a process.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lategrad/data/batch.h"

namespace lategrad {

/// Immutable after loading; any number of threads.
class Dataset {
  public:
    virtual ~Dataset() = default;

    std::size_t size() const { return classes_ > 0 ? labels_.size() : targets_.size(); }
    /// Of one example: (C, H, W) for images, (D) for rows.
    const std::vector<std::int64_t>& shape() const { return shape_; }
    std::size_t features() const; ///< product of shape()
    /// 0: a regression problem.
    std::int64_t classes() const { return classes_; }
    std::span<const std::int64_t> labels() const { return labels_; } ///< in [0, classes)
    std::span<const float> targets() const { return targets_; }

    /// Fills `out` with these examples, normalised; reuses its memory. REQUIRES: indices < size().
    virtual void gather(std::span<const std::uint32_t> indices, Batch& out) const = 0;

  protected:
    std::vector<std::int64_t> shape_;
    std::int64_t classes_ = 0;
    std::vector<std::int64_t> labels_;
    std::vector<float> targets_;
};

struct DataOptions {
    /// fashion-mnist, mnist, mnist-t10k, a folder of IDX files, or a .safetensors file with x, y (, x_test, y_test)
    std::string data = "fashion-mnist";
    std::filesystem::path
        data_dir;           ///< folder of IDX files, gzipped or not; empty: where the data set's package puts them
    std::uint64_t seed = 1; ///< of the splits made here
};

struct DataSplit {
    std::string name; ///< for reports; says so when the split was made here
    std::shared_ptr<const Dataset> train;
    std::shared_ptr<const Dataset> test;
};

/// True for the data sets that have a name, whose files `data_dir` says where to find.
bool is_named_data_set(std::string_view data);

/// Throws InputError naming the file, the offset and what to do.
DataSplit load_data(const DataOptions& options);

} // namespace lategrad
