/// How one gradient takes part in an update.
#pragma once

#include <cstdint>

#include "lategrad/core/ids.h"

namespace lategrad {

struct AppliedGradient {
    WorkerId worker;
    Step step;
    Version base;               ///< the version it was computed on
    std::uint32_t examples = 0; ///< b, its worker's batch size
    double weight = 1;          ///< s, its late weight; its share of the update is s·b/D

    friend bool operator==(const AppliedGradient&, const AppliedGradient&) = default;
};

} // namespace lategrad
