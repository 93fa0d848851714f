#include "lategrad/codec/shuffle.h"

#include <algorithm>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lategrad/codec/shuffle.cpp"
#include <hwy/foreach_target.h>
//
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace lategrad::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

void shuffle2(const std::uint8_t* in, std::size_t values, std::uint8_t* out) {
    const hn::ScalableTag<std::uint8_t> d;
    std::size_t i = 0;
    for (; i + hn::Lanes(d) <= values; i += hn::Lanes(d)) {
        auto v0 = hn::Undefined(d), v1 = v0;
        hn::LoadInterleaved2(d, in + 2 * i, v0, v1);
        hn::StoreU(v0, d, out + i);
        hn::StoreU(v1, d, out + values + i);
    }
    for (; i < values; ++i) {
        for (std::size_t b = 0; b < 2; ++b) out[b * values + i] = in[2 * i + b];
    }
}

void shuffle4(const std::uint8_t* in, std::size_t values, std::uint8_t* out) {
    const hn::ScalableTag<std::uint8_t> d;
    std::size_t i = 0;
    for (; i + hn::Lanes(d) <= values; i += hn::Lanes(d)) {
        auto v0 = hn::Undefined(d), v1 = v0, v2 = v0, v3 = v0;
        hn::LoadInterleaved4(d, in + 4 * i, v0, v1, v2, v3);
        hn::StoreU(v0, d, out + i);
        hn::StoreU(v1, d, out + values + i);
        hn::StoreU(v2, d, out + 2 * values + i);
        hn::StoreU(v3, d, out + 3 * values + i);
    }
    for (; i < values; ++i) {
        for (std::size_t b = 0; b < 4; ++b) out[b * values + i] = in[4 * i + b];
    }
}

void unshuffle2(const std::uint8_t* in, std::size_t values, std::uint8_t* out) {
    const hn::ScalableTag<std::uint8_t> d;
    std::size_t i = 0;
    for (; i + hn::Lanes(d) <= values; i += hn::Lanes(d)) {
        hn::StoreInterleaved2(hn::LoadU(d, in + i), hn::LoadU(d, in + values + i), d, out + 2 * i);
    }
    for (; i < values; ++i) {
        for (std::size_t b = 0; b < 2; ++b) out[2 * i + b] = in[b * values + i];
    }
}

void unshuffle4(const std::uint8_t* in, std::size_t values, std::uint8_t* out) {
    const hn::ScalableTag<std::uint8_t> d;
    std::size_t i = 0;
    for (; i + hn::Lanes(d) <= values; i += hn::Lanes(d)) {
        hn::StoreInterleaved4(hn::LoadU(d, in + i), hn::LoadU(d, in + values + i), hn::LoadU(d, in + 2 * values + i),
                              hn::LoadU(d, in + 3 * values + i), d, out + 4 * i);
    }
    for (; i < values; ++i) {
        for (std::size_t b = 0; b < 4; ++b) out[4 * i + b] = in[b * values + i];
    }
}

} // namespace
} // namespace lategrad::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lategrad {

HWY_EXPORT(shuffle2);
HWY_EXPORT(shuffle4);
HWY_EXPORT(unshuffle2);
HWY_EXPORT(unshuffle4);

void shuffle(std::span<const std::byte> in, std::size_t word, std::span<std::byte> out) {
    const auto* from = reinterpret_cast<const std::uint8_t*>(in.data());
    auto* to = reinterpret_cast<std::uint8_t*>(out.data());
    const std::size_t values = in.size() / word;
    if (word == 2) HWY_DYNAMIC_DISPATCH(shuffle2)(from, values, to);
    else if (word == 4) HWY_DYNAMIC_DISPATCH(shuffle4)(from, values, to);
    std::copy(in.begin() + static_cast<std::ptrdiff_t>(values * word), in.end(),
              out.begin() + static_cast<std::ptrdiff_t>(values * word));
}

void unshuffle(std::span<const std::byte> in, std::size_t word, std::span<std::byte> out) {
    const auto* from = reinterpret_cast<const std::uint8_t*>(in.data());
    auto* to = reinterpret_cast<std::uint8_t*>(out.data());
    const std::size_t values = in.size() / word;
    if (word == 2) HWY_DYNAMIC_DISPATCH(unshuffle2)(from, values, to);
    else if (word == 4) HWY_DYNAMIC_DISPATCH(unshuffle4)(from, values, to);
    std::copy(in.begin() + static_cast<std::ptrdiff_t>(values * word), in.end(),
              out.begin() + static_cast<std::ptrdiff_t>(values * word));
}

} // namespace lategrad
#endif
