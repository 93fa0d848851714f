/// A worker's own sequence of batches.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "lategrad/core/ids.h"
#include "lategrad/data/dataset.h"

namespace lategrad {

/// Walks through the part in a new order every epoch, so that an epoch visits every example once; a batch that reaches
/// the end goes on into the next epoch and always has `batch_size` examples. The batch of a step depends on
/// (seed, worker, step) alone, which is what lets a run be replayed.
class Batcher {
  public:
    /// REQUIRES: part not empty, batch_size > 0.
    Batcher(std::shared_ptr<const Dataset> data, std::vector<std::uint32_t> part, std::size_t batch_size,
            std::uint64_t seed, WorkerId worker);

    /// Any step, in any order; consecutive ones are cheap.
    void draw(Step step, Batch& out);

    std::size_t batch_size() const { return batch_size_; }

  private:
    void enter_epoch(std::uint64_t epoch);

    std::shared_ptr<const Dataset> data_;
    std::vector<std::uint32_t> part_;
    std::size_t batch_size_;
    std::uint64_t seed_;
    WorkerId worker_;
    std::uint64_t epoch_ = ~std::uint64_t{0};
    std::vector<std::uint32_t> order_;
    std::vector<std::uint32_t> indices_;
};

/// How many examples of a global batch each worker takes, in proportion to the part it holds: of even parts B/n each,
/// the first B mod n one more. So every worker's epoch takes as many steps, and the mean over the global batch is, but
/// for the rounding to whole examples, one over all data, however uneven the parts. At least one each. REQUIRES: as
/// many parts as batch_size at most, none empty.
std::vector<std::uint32_t> batch_shares(std::size_t batch_size, std::span<const std::size_t> part_sizes);

} // namespace lategrad
