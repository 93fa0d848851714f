#include "lategrad/codec/finite.h"

#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lategrad/codec/finite.cpp"
#include <hwy/foreach_target.h>
//
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace lategrad::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

bool all_finite(std::span<const std::byte> floats) {
    // As integers without the sign, infinities and NaNs are what is above the largest float. Four places are read side
    // by side: one thread gets a fifth more out of memory so.
    constexpr std::size_t kApart = 4096;
    constexpr std::int32_t kLargest = 0x7f7fffff;
    const std::size_t size = floats.size() / sizeof(float);
    const auto magnitudes = [&](auto d, std::size_t i) HWY_ATTR {
        const auto* const at = reinterpret_cast<const std::int32_t*>(floats.data() + i * sizeof(float));
        return hn::And(hn::LoadU(d, at), hn::Set(d, 0x7fffffff));
    };
    const hn::ScalableTag<std::int32_t> d;
    auto max0 = hn::Zero(d), max1 = max0, max2 = max0, max3 = max0;
    // From the end, so that the beginning, where whoever asks goes on, is in cache.
    const std::size_t whole = size / (4 * kApart) * (4 * kApart);
    std::size_t i = whole;
    for (; i + hn::Lanes(d) <= size; i += hn::Lanes(d)) max0 = hn::Max(max0, magnitudes(d, i));
    const std::size_t last = i;
    for (i = whole; i > 0;) {
        i -= 4 * kApart;
        for (std::size_t j = i; j < i + kApart; j += hn::Lanes(d)) {
            max0 = hn::Max(max0, magnitudes(d, j));
            max1 = hn::Max(max1, magnitudes(d, j + kApart));
            max2 = hn::Max(max2, magnitudes(d, j + 2 * kApart));
            max3 = hn::Max(max3, magnitudes(d, j + 3 * kApart));
        }
    }
    const auto max = hn::Max(hn::Max(max0, max1), hn::Max(max2, max3));
    bool finite = hn::AllFalse(d, hn::Gt(max, hn::Set(d, kLargest)));
    i = last;
    for (const hn::CappedTag<std::int32_t, 1> one; i < size; ++i) {
        finite &= hn::GetLane(magnitudes(one, i)) <= kLargest;
    }
    return finite;
}

} // namespace
} // namespace lategrad::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lategrad {

HWY_EXPORT(all_finite);

bool all_finite(std::span<const std::byte> floats) {
    return HWY_DYNAMIC_DISPATCH(all_finite)(floats);
}

} // namespace lategrad
#endif
