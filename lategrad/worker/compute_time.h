/// How long a gradient takes where that is modelled, not measured.
#pragma once

#include <cstdint>

#include "lategrad/core/time.h"

namespace lategrad {

/// A batch of b examples takes per_batch + b · per_example, before straggling.
struct ComputeTime {
    Duration per_batch{0};
    Duration per_example{0};

    Duration of(std::uint32_t examples) const {
        const double total = seconds(per_batch) + examples * seconds(per_example);
        return total < kSecondsMax ? per_batch + examples * per_example : from_seconds(kSecondsMax);
    }
};

} // namespace lategrad
