/// Random numbers by counting, for stochastic rounding: number i of a chunk follows from the payload's seed, the chunk
/// and i alone. Included by a kernel file once for each instruction set.
#if defined(LATEGRAD_CODEC_DRAW_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LATEGRAD_CODEC_DRAW_INL_H_
#undef LATEGRAD_CODEC_DRAW_INL_H_
#else
#define LATEGRAD_CODEC_DRAW_INL_H_
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace lategrad::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

/// Uniform in [0, 1), with 24 random bits: numbers i, i + 1, … of the stream with this key. Two rounds of multiplying
/// and shifting (constants: Wellons, "Hash function prospecting", 2018), with half of the key before each.
template <class D>
HWY_INLINE auto uniform(D df, std::uint64_t key, std::size_t i) {
    const hn::RebindToUnsigned<D> d;
    const auto low = hn::Set(d, static_cast<std::uint32_t>(key));
    const auto high = hn::Set(d, static_cast<std::uint32_t>(key >> 32));
    auto x = hn::Add(hn::Iota(d, static_cast<std::uint32_t>(i)), low);
    x = hn::Mul(hn::Xor(x, hn::ShiftRight<16>(x)), hn::Set(d, 0x7feb352dU));
    x = hn::Xor(hn::Xor(x, high), hn::ShiftRight<15>(x));
    x = hn::Mul(x, hn::Set(d, 0x846ca68bU));
    x = hn::Xor(x, hn::ShiftRight<16>(x));
    const auto whole = hn::BitCast(hn::RebindToSigned<D>(), hn::ShiftRight<8>(x));
    return hn::Mul(hn::ConvertTo(df, whole), hn::Set(df, 0x1.0p-24F));
}

} // namespace
} // namespace lategrad::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
