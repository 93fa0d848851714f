#include "lategrad/codec/tern.h"

#include <algorithm>
#include <cmath>

#include "lategrad/core/bytes.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lategrad/codec/tern.cpp"
#include <hwy/foreach_target.h>
//
#include <hwy/highway.h>

#include "lategrad/codec/draw-inl.h"
#include "lategrad/codec/eights-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lategrad::HWY_NAMESPACE {
namespace {

static_assert(ChunkRule::kPadding == kEight);

float largest_magnitude(std::span<const float> values) {
    const Eight d;
    auto largest = hn::Zero(d);
    for (std::size_t i = 0; i < values.size(); i += hn::Lanes(d)) {
        largest = hn::Max(largest, hn::Abs(hn::LoadU(d, values.data() + i)));
    }
    return hn::GetLane(hn::MaxOfLanes(d, largest));
}

void pack_terns(std::span<const float> values, float scale, std::uint64_t key, std::byte* nonzero,
                std::byte* negative) {
    for (std::size_t i = 0; i < values.size(); i += kEight) {
        const auto drawn = [&](auto d, std::size_t j) HWY_ATTR {
            const auto threshold = hn::Mul(uniform(d, key, i + j), hn::Set(d, scale));
            return hn::Lt(threshold, hn::Abs(hn::LoadU(d, values.data() + i + j)));
        };
        const auto below_zero = [&](auto d, std::size_t j)
                                    HWY_ATTR { return hn::Lt(hn::LoadU(d, values.data() + i + j), hn::Zero(d)); };
        nonzero[i / kEight] = bits_of(drawn);
        negative[i / kEight] = nonzero[i / kEight] & bits_of(below_zero);
    }
}

void add_terns(const std::byte* nonzero, const std::byte* negative, float scale, float coefficient, bool continues,
               std::span<float> sum) {
    add_eights(coefficient, continues, sum, [&](auto d, std::size_t i) HWY_ATTR {
        const auto value =
            hn::IfThenElse(mask_of(d, negative[i / kEight], i % kEight), hn::Set(d, -scale), hn::Set(d, scale));
        return hn::IfThenElseZero(mask_of(d, nonzero[i / kEight], i % kEight), value);
    });
}

} // namespace
} // namespace lategrad::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lategrad {

HWY_EXPORT(sum_of_squares);
HWY_EXPORT(largest_magnitude);
HWY_EXPORT(pack_terns);
HWY_EXPORT(add_terns);

std::optional<std::size_t> TernRule::encode(std::span<const float> values, const Draw& draw,
                                            std::span<std::byte> out) const {
    const float squares = HWY_DYNAMIC_DISPATCH(sum_of_squares)(values);
    if (!std::isfinite(squares)) return std::nullopt; // so is then one of the values, or the square of one
    const float deviation = std::sqrt(squares / static_cast<float>(values.size()));
    const float scale = std::min(HWY_DYNAMIC_DISPATCH(largest_magnitude)(values), kClip * deviation);
    store(out, 0, scale);
    const std::size_t bits = (values.size() + 7) / 8;
    std::byte* const nonzero = out.data() + sizeof scale;
    HWY_DYNAMIC_DISPATCH(pack_terns)(values, scale, draw.key(), nonzero, nonzero + bits);
    return chunk_bytes(values.size());
}

Reason TernRule::check(const EncodedChunk& chunk) const {
    const float scale = load<float>(chunk.bytes);
    if (!std::isfinite(scale)) return Reason::not_finite;
    return scale < 0 ? Reason::malformed : Reason::none;
}

void TernRule::add(const EncodedChunk& chunk, float coefficient, bool continues, std::span<float> sum) const {
    const std::byte* const nonzero = chunk.bytes.data() + sizeof(float);
    HWY_DYNAMIC_DISPATCH(add_terns)
    (nonzero, nonzero + (chunk.elements + 7) / 8, load<float>(chunk.bytes), coefficient, continues, sum);
}

} // namespace lategrad
#endif
