#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>

namespace lategrad {

/// Equal to the last bit: tells −0 from 0, and a NaN from another.
inline bool same_bits(std::span<const float> a, std::span<const float> b) {
    return std::ranges::equal(
        a, b, [](float x, float y) { return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y); });
}

} // namespace lategrad
