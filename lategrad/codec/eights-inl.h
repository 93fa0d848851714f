/// Vectors of eight floats on every instruction set, or as many as it has: sums in one fixed order, masks as bits of a
/// byte. Included by a kernel file once for each instruction set.
#if defined(LATEGRAD_CODEC_EIGHTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LATEGRAD_CODEC_EIGHTS_INL_H_
#undef LATEGRAD_CODEC_EIGHTS_INL_H_
#else
#define LATEGRAD_CODEC_EIGHTS_INL_H_
#endif

#include <hwy/highway.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

HWY_BEFORE_NAMESPACE();
namespace lategrad::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

inline constexpr std::size_t kEight = 8;
using Eight = hn::CappedTag<float, kEight>;

/// Σ term(i) over all i, as eight running sums that are added up pairwise at the end: the same bits on every
/// instruction set. `term(d, i)` is a vector of values i, i + 1, …; it is asked for up to a multiple of eight.
template <class Term>
HWY_INLINE float sum_of(std::size_t size, const Term& term) {
    const Eight d;
    alignas(64) std::array<float, kEight> sums{};
    if (hn::Lanes(d) == kEight) {
        auto sum = hn::Zero(d);
        for (std::size_t i = 0; i < size; i += kEight) sum = hn::Add(sum, term(d, i));
        hn::Store(sum, d, sums.data());
    } else if (2 * hn::Lanes(d) == kEight) {
        auto low = hn::Zero(d), high = hn::Zero(d);
        for (std::size_t i = 0; i < size; i += kEight) {
            low = hn::Add(low, term(d, i));
            high = hn::Add(high, term(d, i + kEight / 2));
        }
        hn::StoreU(low, d, sums.data());
        hn::StoreU(high, d, sums.data() + kEight / 2);
    } else {
        for (std::size_t i = 0; i < size; i += kEight) {
            for (std::size_t j = 0; j < kEight; j += hn::Lanes(d)) {
                hn::StoreU(hn::Add(hn::LoadU(d, &sums[j]), term(d, i + j)), d, &sums[j]);
            }
        }
    }
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

[[maybe_unused]] float sum_of_squares(std::span<const float> values) {
    return sum_of(values.size(), [&](auto d, std::size_t i) HWY_ATTR {
        const auto value = hn::LoadU(d, values.data() + i);
        return hn::Mul(value, value);
    });
}

/// Bit j of the byte is lane j of eight masks: `mask(d, j)` for lanes j, j + 1, ….
template <class Mask>
HWY_INLINE std::byte bits_of(const Mask& mask) {
    const Eight d;
    unsigned bits = 0;
    for (std::size_t j = 0; j < kEight; j += hn::Lanes(d)) {
        std::array<std::uint8_t, 8> stored{};
        hn::StoreMaskBits(d, mask(d, j), stored.data());
        bits |= static_cast<unsigned>(stored[0]) << j;
    }
    return static_cast<std::byte>(bits);
}

/// Lanes j, j + 1, … of the masks that bits_of has made a byte of.
template <class D>
HWY_INLINE auto mask_of(D d, std::byte bits, std::size_t j) {
    const std::array<std::uint8_t, 8> stored{static_cast<std::uint8_t>(static_cast<unsigned>(bits) >> j)};
    return hn::LoadMaskBits(d, stored.data());
}

/// sum = c·value, or sum + c·value, for all elements; `value(d, i)` for values i, i + 1, …, asked for up to a multiple
/// of eight.
template <class Value>
HWY_INLINE void add_eights(float coefficient, bool continues, std::span<float> sum, const Value& value) {
    const Eight d;
    const auto factor = hn::Set(d, coefficient);
    const std::size_t whole = sum.size() / kEight * kEight;
    // Two loops, because GCC asks in each turn of one.
    if (continues) {
        for (std::size_t i = 0; i < whole; i += hn::Lanes(d))
            hn::StoreU(hn::Add(hn::LoadU(d, &sum[i]), hn::Mul(factor, value(d, i))), d, &sum[i]);
    } else {
        for (std::size_t i = 0; i < whole; i += hn::Lanes(d)) hn::StoreU(hn::Mul(factor, value(d, i)), d, &sum[i]);
    }
    if (whole == sum.size()) return;
    alignas(64) std::array<float, kEight> last{};
    for (std::size_t j = 0; j < kEight; j += hn::Lanes(d))
        hn::StoreU(hn::Mul(factor, value(d, whole + j)), d, &last[j]);
    for (std::size_t i = whole; i < sum.size(); ++i) sum[i] = continues ? sum[i] + last[i - whole] : last[i - whole];
}

} // namespace
} // namespace lategrad::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
