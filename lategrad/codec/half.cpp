#include "lategrad/codec/half.h"

#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lategrad/codec/half.cpp"
#include <hwy/foreach_target.h>
//
#include <hwy/highway.h>

#include "lategrad/core/for_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lategrad::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Words = std::uint16_t;

/// As bits without the sign, the smallest magnitudes that round to infinity: 65520, and half a step above the largest
/// bfloat16, whose last bit is odd. NaNs and infinities are above both.
constexpr std::int32_t kBf16Overflow = 0x7f7f8000;
constexpr std::int32_t kFp16Overflow = 0x477ff000;
/// The smallest normal binary16, 2^-14. What is smaller is rounded by adding 0.5, whose last bit has the worth of the
/// last bit of a subnormal binary16.
constexpr std::int32_t kFp16Normal = 0x38800000;
constexpr std::int32_t kHalf = 0x3f000000;
/// 2^112, the ratio of the exponents' biases, exactly.
constexpr std::int32_t kRebias = 0x77800000;

struct Bf16 {
    static constexpr std::int32_t kOverflow = kBf16Overflow;
    static constexpr std::int32_t kInfinity = 0x7f80;

    template <class D, class V>
    static auto encode(D d, V bits) {
        const hn::Repartition<std::uint32_t, D> du;
        const auto u = hn::BitCast(du, bits);
        const auto odd = hn::And(hn::ShiftRight<16>(u), hn::Set(du, 1));
        return hn::BitCast(d, hn::ShiftRight<16>(hn::Add(u, hn::Add(odd, hn::Set(du, 0x7fff)))));
    }
    template <class D, class V>
    static auto decode(D, V words) {
        return hn::ShiftLeft<16>(words);
    }
};

struct Fp16 {
    static constexpr std::int32_t kOverflow = kFp16Overflow;
    static constexpr std::int32_t kInfinity = 0x7c00;

    template <class D, class V>
    static auto encode(D d, V bits) {
        const hn::RebindToFloat<D> df;
        const auto magnitude = hn::And(bits, hn::Set(d, 0x7fffffff));
        const auto sign = hn::ShiftRight<16>(hn::AndNot(hn::Set(d, 0x7fffffff), bits)); // arithmetic: narrowed below
        const auto half = hn::Set(d, kHalf);
        const auto small = hn::Sub(hn::BitCast(d, hn::Add(hn::BitCast(df, magnitude), hn::BitCast(df, half))), half);
        const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(d, 1));
        const auto rebiased = hn::Sub(magnitude, hn::Set(d, kFp16Normal - (1 << 23)));
        const auto normal = hn::ShiftRight<13>(hn::Add(hn::Add(rebiased, hn::Set(d, 0xfff)), odd));
        const auto is_small = hn::Lt(magnitude, hn::Set(d, kFp16Normal));
        return hn::Or(hn::And(sign, hn::Set(d, 0x8000)), hn::IfThenElse(is_small, small, normal));
    }
    template <class D, class V>
    static auto decode(D d, V words) {
        const hn::RebindToFloat<D> df;
        const auto sign = hn::ShiftLeft<16>(hn::And(words, hn::Set(d, 0x8000)));
        const auto magnitude = hn::ShiftLeft<13>(hn::And(words, hn::Set(d, 0x7fff)));
        const auto value = hn::Mul(hn::BitCast(df, magnitude), hn::BitCast(df, hn::Set(d, kRebias)));
        return hn::Or(hn::BitCast(d, value), sign);
    }
};

template <class Format>
bool encode(std::span<const float> values, std::span<std::byte> out) {
    auto* const words = reinterpret_cast<Words*>(out.data());
    std::int32_t largest = 0;
    const hn::ScalableTag<std::int32_t> all;
    auto max = hn::Zero(all);
    const auto at = [&](auto df, std::size_t i) HWY_ATTR {
        const hn::RebindToSigned<decltype(df)> d;
        const hn::Rebind<Words, decltype(df)> narrow;
        const auto bits = hn::BitCast(d, hn::LoadU(df, &values[i]));
        const auto magnitude = hn::And(bits, hn::Set(d, 0x7fffffff));
        if constexpr (hn::MaxLanes(d) == 1) largest = std::max(largest, hn::GetLane(magnitude));
        else max = hn::Max(max, magnitude);
        hn::StoreU(hn::DemoteTo(narrow, Format::encode(d, bits)), narrow, words + i);
    };
    for_vectors(values.size(), at);
    return std::max(largest, hn::GetLane(hn::MaxOfLanes(all, max))) < Format::kOverflow;
}

template <class Format>
bool all_finite(std::span<const std::byte> bytes, std::size_t elements) {
    const auto* const words = reinterpret_cast<const Words*>(bytes.data());
    bool finite = true;
    for_vectors(elements, [&](auto df, std::size_t i) HWY_ATTR {
        const hn::RebindToSigned<decltype(df)> d;
        const hn::Rebind<Words, decltype(df)> narrow;
        const auto infinity = hn::Set(d, Format::kInfinity);
        const auto exponent = hn::And(hn::PromoteTo(d, hn::LoadU(narrow, words + i)), infinity);
        finite &= hn::AllFalse(d, hn::Eq(exponent, infinity));
    });
    return finite;
}

template <class Format>
void add(std::span<const std::byte> bytes, float coefficient, bool continues, std::span<float> sum) {
    const auto* const words = reinterpret_cast<const Words*>(bytes.data());
    for_vectors(sum.size(), [&](auto df, std::size_t i) HWY_ATTR {
        const hn::RebindToSigned<decltype(df)> d;
        const hn::Rebind<Words, decltype(df)> narrow;
        const auto value = hn::BitCast(df, Format::decode(d, hn::PromoteTo(d, hn::LoadU(narrow, words + i))));
        auto total = hn::Mul(hn::Set(df, coefficient), value);
        if (continues) total = hn::Add(hn::LoadU(df, &sum[i]), total);
        hn::StoreU(total, df, &sum[i]);
    });
}

bool encode_fp16(std::span<const float> values, std::span<std::byte> out) {
    return encode<Fp16>(values, out);
}
bool encode_bf16(std::span<const float> values, std::span<std::byte> out) {
    return encode<Bf16>(values, out);
}
bool finite_fp16(std::span<const std::byte> bytes, std::size_t elements) {
    return all_finite<Fp16>(bytes, elements);
}
bool finite_bf16(std::span<const std::byte> bytes, std::size_t elements) {
    return all_finite<Bf16>(bytes, elements);
}
void add_fp16(std::span<const std::byte> bytes, float coefficient, bool continues, std::span<float> sum) {
    add<Fp16>(bytes, coefficient, continues, sum);
}
void add_bf16(std::span<const std::byte> bytes, float coefficient, bool continues, std::span<float> sum) {
    add<Bf16>(bytes, coefficient, continues, sum);
}

} // namespace
} // namespace lategrad::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lategrad {

HWY_EXPORT(encode_fp16);
HWY_EXPORT(encode_bf16);
HWY_EXPORT(finite_fp16);
HWY_EXPORT(finite_bf16);
HWY_EXPORT(add_fp16);
HWY_EXPORT(add_bf16);

std::optional<std::size_t> HalfRule::encode(std::span<const float> values, const Draw&,
                                            std::span<std::byte> out) const {
    const bool fits = format_ == Format::fp16 ? HWY_DYNAMIC_DISPATCH(encode_fp16)(values, out)
                                              : HWY_DYNAMIC_DISPATCH(encode_bf16)(values, out);
    return fits ? std::optional(chunk_bytes(values.size())) : std::nullopt;
}

Reason HalfRule::check(const EncodedChunk& chunk) const {
    const bool finite = format_ == Format::fp16 ? HWY_DYNAMIC_DISPATCH(finite_fp16)(chunk.bytes, chunk.elements)
                                                : HWY_DYNAMIC_DISPATCH(finite_bf16)(chunk.bytes, chunk.elements);
    return finite ? Reason::none : Reason::not_finite;
}

void HalfRule::add(const EncodedChunk& chunk, float coefficient, bool continues, std::span<float> sum) const {
    if (format_ == Format::fp16) HWY_DYNAMIC_DISPATCH(add_fp16)(chunk.bytes, coefficient, continues, sum);
    else HWY_DYNAMIC_DISPATCH(add_bf16)(chunk.bytes, coefficient, continues, sum);
}

} // namespace lategrad
#endif
