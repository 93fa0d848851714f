#pragma once

#include <cmath>
#include <cstddef>
#include <span>

namespace lategrad {

/// Whether no value is infinite or NaN: one pass, as fast as memory is. The bytes are floats at any address.
bool all_finite(std::span<const std::byte> floats);

inline bool all_finite(std::span<const float> values) {
    return all_finite(std::as_bytes(values));
}

/// What `scale` was multiplied with. 0 where that overflows: rounding, divided by a scale near 0, must not stay behind
/// as an infinity.
inline float unscaled(float product, float scale) {
    const float value = product / scale;
    return std::isfinite(value) ? value : 0;
}

} // namespace lategrad
