/// Batches of a part of the data, in an order that the seed decides.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "lategrad/core/gradient.h"
#include "lategrad/data/dataset.h"

namespace lategrad {

/// Examples by part, as `divide` makes them.
using Parts = std::vector<std::vector<std::uint32_t>>;

/// One worker's way to its batches. A part is walked through in a new order every epoch, so that an epoch visits every
/// example once; a batch that reaches the end goes on into the next epoch and always has `batch_size` examples. What is
/// drawn depends on (seed, part, position) alone and not on who draws, which is what lets a run be replayed, and
/// another worker take a part over.
class Batcher {
  public:
    /// REQUIRES: batch_size > 0; no part that is drawn from is empty.
    Batcher(std::shared_ptr<const Dataset> data, std::shared_ptr<const Parts> parts, std::size_t batch_size,
            std::uint64_t seed);

    /// From any position, in any order; consecutive ones are cheap.
    void draw(const DataPosition& begin, Batch& out);

    std::size_t batch_size() const { return batch_size_; }
    std::size_t parts() const { return parts_->size(); }

  private:
    /// An epoch of a part that was drawn from.
    struct Order {
        std::uint64_t epoch = ~std::uint64_t{0};
        std::vector<std::uint32_t> examples;
    };
    const std::vector<std::uint32_t>& order(std::uint32_t part, std::uint64_t epoch);

    std::shared_ptr<const Dataset> data_;
    std::shared_ptr<const Parts> parts_;
    std::size_t batch_size_;
    std::uint64_t seed_;
    std::map<std::uint32_t, Order> orders_; ///< by part
    std::vector<std::uint32_t> indices_;
};

/// How many examples of a global batch each worker takes, in proportion to the part it holds: of even parts B/n each,
/// the first B mod n one more. So every worker's epoch takes as many steps, and the mean over the global batch is, but
/// for the rounding to whole examples, one over all data, however uneven the parts. At least one each. REQUIRES: as
/// many parts as batch_size at most, none empty.
std::vector<std::uint32_t> batch_shares(std::size_t batch_size, std::span<const std::size_t> part_sizes);

} // namespace lategrad
