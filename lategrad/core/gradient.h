/// What a gradient is computed on, and how it takes part in an update.
#pragma once

#include <cstdint>

#include "lategrad/core/ids.h"

namespace lategrad {

/// Where a batch begins: the sequence of a part's examples, epoch after epoch, each in an order of its own.
struct DataPosition {
    std::uint32_t part = 0;
    std::uint64_t position = 0; ///< in examples

    template <class A>
    void archive(A& archive) {
        archive(part, position);
    }
    friend bool operator==(const DataPosition&, const DataPosition&) = default;
};

/// Where the batch of gradient (worker, step) begins unless the server said otherwise: each worker walks through its
/// own part.
inline DataPosition own_data(WorkerId worker, Step step, std::uint32_t examples) {
    return {.part = worker.value(), .position = step.value() * examples};
}

struct AppliedGradient {
    WorkerId worker;
    Step step;
    Version base;               ///< the version it was computed on
    std::uint32_t examples = 0; ///< b, its worker's batch size
    double weight = 1;          ///< s, its late weight; its share of the update is s·b/D

    template <class A>
    void archive(A& archive) {
        archive(worker, step, base, examples, weight);
    }
    friend bool operator==(const AppliedGradient&, const AppliedGradient&) = default;
};

} // namespace lategrad
