#include "lategrad/codec/sign.h"

#include <array>
#include <cmath>

#include "lategrad/core/bytes.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lategrad/codec/sign.cpp"
#include <hwy/foreach_target.h>
//
#include <hwy/highway.h>

#include "lategrad/codec/eights-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lategrad::HWY_NAMESPACE {
namespace {

static_assert(ChunkRule::kPadding == kEight);

/// Returns Σ |values|.
float pack_signs(std::span<const float> values, std::byte* bits) {
    return sum_of(values.size(), [&](auto d, std::size_t i) HWY_ATTR {
        const auto value = hn::LoadU(d, values.data() + i);
        std::array<std::uint8_t, 8> negative{};
        hn::StoreMaskBits(d, hn::Lt(value, hn::Zero(d)), negative.data());
        const auto shifted = static_cast<std::byte>(negative[0] << i % kEight);
        bits[i / kEight] = i % kEight == 0 ? shifted : bits[i / kEight] | shifted; // where vectors are short, in parts
        return hn::Abs(value);
    });
}

void add_signs(const std::byte* bits, float magnitude, float coefficient, bool continues, std::span<float> sum) {
    add_eights(coefficient, continues, sum, [&](auto d, std::size_t i) HWY_ATTR {
        const auto negative = mask_of(d, bits[i / kEight], i % kEight);
        return hn::IfThenElse(negative, hn::Set(d, -magnitude), hn::Set(d, magnitude));
    });
}

} // namespace
} // namespace lategrad::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lategrad {

HWY_EXPORT(pack_signs);
HWY_EXPORT(add_signs);

std::optional<std::size_t> SignRule::encode(std::span<const float> values, const Draw&,
                                            std::span<std::byte> out) const {
    const float sum = HWY_DYNAMIC_DISPATCH(pack_signs)(values, out.data() + sizeof(float));
    const float magnitude = sum / static_cast<float>(values.size());
    if (!std::isfinite(magnitude)) return std::nullopt; // nor is then one of the values, or their sum
    store(out, 0, magnitude);
    return chunk_bytes(values.size());
}

Reason SignRule::check(const EncodedChunk& chunk) const {
    const float magnitude = load<float>(chunk.bytes);
    if (!std::isfinite(magnitude)) return Reason::not_finite;
    return magnitude < 0 ? Reason::malformed : Reason::none;
}

void SignRule::add(const EncodedChunk& chunk, float coefficient, bool continues, std::span<float> sum) const {
    HWY_DYNAMIC_DISPATCH(add_signs)
    (chunk.bytes.data() + sizeof(float), load<float>(chunk.bytes), coefficient, continues, sum);
}

} // namespace lategrad
#endif
