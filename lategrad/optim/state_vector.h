#pragma once

#include <algorithm>
#include <cstddef>

#include "lategrad/core/buffer.h"

namespace lategrad {

/// A vector of zeros for an optimizer's state, in memory as good as the parameters' own (a pool's: huge pages).
inline Buffer zeroed_state(std::size_t floats) {
    const std::size_t bytes = floats * sizeof(float);
    Buffer state = BufferPool(bytes).lease(bytes);
    std::ranges::fill(state.floats(), 0.0f);
    return state;
}

} // namespace lategrad
