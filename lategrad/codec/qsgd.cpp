#include "lategrad/codec/qsgd.h"

#include <algorithm>
#include <cmath>

#include "lategrad/core/bytes.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lategrad/codec/qsgd.cpp"
#include <hwy/foreach_target.h>
//
#include <hwy/highway.h>

#include "lategrad/codec/draw-inl.h"
#include "lategrad/codec/eights-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lategrad::HWY_NAMESPACE {
namespace {

using Int = hn::RebindToSigned<Eight>;
using Byte = hn::Rebind<std::int8_t, Eight>;

static_assert(ChunkRule::kPadding == kEight);

/// Signed levels of values i, i + 1, …: ⌊|v|·per_level + u⌋ with the sign of v, never above `levels`, which rounding
/// could take it to.
auto levels_of(const float* values, float per_level, int levels, std::uint64_t key, std::size_t i) {
    const Eight d;
    const Int di;
    const auto value = hn::LoadU(d, values + i);
    const auto level = hn::Mul(hn::Abs(value), hn::Set(d, per_level));
    const auto whole = hn::Min(hn::ConvertTo(di, hn::Add(level, uniform(d, key, i))), hn::Set(di, levels));
    return hn::IfThenElse(hn::MaskFromVec(hn::BitCast(di, hn::VecFromMask(d, hn::Lt(value, hn::Zero(d))))),
                          hn::Neg(whole), whole);
}

void encode_bytes(const float* values, std::size_t from, std::size_t size, float per_level, int levels,
                  std::uint64_t key, std::byte* out) {
    const Byte db;
    auto* const bytes = reinterpret_cast<std::int8_t*>(out);
    const std::size_t whole = size / kEight * kEight;
    for (std::size_t i = from; i < from + whole; i += hn::Lanes(Eight())) {
        hn::StoreU(hn::DemoteTo(db, levels_of(values, per_level, levels, key, i)), db, bytes + i);
    }
    if (whole == size) return;
    std::array<std::int8_t, kEight> last{};
    for (std::size_t j = 0; j < kEight; j += hn::Lanes(Eight())) {
        hn::StoreU(hn::DemoteTo(db, levels_of(values, per_level, levels, key, from + whole + j)), db, &last[j]);
    }
    std::copy_n(last.begin(), size - whole, bytes + from + whole);
}

void encode_planes(const float* values, std::size_t from, std::size_t size, float per_level, int levels,
                   std::uint64_t key, int bits, std::size_t plane_bytes, std::byte* out) {
    const Int di;
    for (std::size_t i = from; i < from + size; i += kEight) {
        std::array<std::int32_t, kEight> codes;
        for (std::size_t j = 0; j < kEight; j += hn::Lanes(di)) {
            hn::StoreU(hn::Add(levels_of(values, per_level, levels, key, i + j), hn::Set(di, levels)), di, &codes[j]);
        }
        for (int plane = 0; plane < bits; ++plane) {
            const auto set = [&](auto d, std::size_t j) HWY_ATTR {
                return hn::RebindMask(d, hn::TestBit(hn::LoadU(di, &codes[j]), hn::Set(di, 1 << plane)));
            };
            out[static_cast<std::size_t>(plane) * plane_bytes + i / kEight] = bits_of(set);
        }
    }
}

void add_bytes(const std::byte* in, float step, float coefficient, bool continues, std::span<float> sum) {
    const auto* const bytes = reinterpret_cast<const std::int8_t*>(in);
    const Byte db;
    const Int di;
    const std::size_t whole = sum.size() / kEight * kEight;
    add_eights(coefficient, continues, sum, [&](auto d, std::size_t i) HWY_ATTR {
        std::array<std::int8_t, kEight> last{};
        if (i >= whole) std::copy(bytes + i, std::max(bytes + i, bytes + sum.size()), last.begin());
        const auto level = hn::PromoteTo(di, hn::LoadU(db, i < whole ? bytes + i : last.data()));
        return hn::Mul(hn::ConvertTo(d, level), hn::Set(d, step));
    });
}

void add_planes(const std::byte* in, std::size_t plane_bytes, int bits, int levels, float step, float coefficient,
                bool continues, std::span<float> sum) {
    const Int di;
    add_eights(coefficient, continues, sum, [&](auto d, std::size_t i) HWY_ATTR {
        auto level = hn::Set(di, -levels);
        for (int plane = 0; plane < bits; ++plane) {
            const std::byte stored = in[static_cast<std::size_t>(plane) * plane_bytes + i / kEight];
            level = hn::Add(level, hn::IfThenElseZero(mask_of(di, stored, i % kEight), hn::Set(di, 1 << plane)));
        }
        return hn::Mul(hn::ConvertTo(d, level), hn::Set(d, step));
    });
}

} // namespace
} // namespace lategrad::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lategrad {

HWY_EXPORT(sum_of_squares);
HWY_EXPORT(encode_bytes);
HWY_EXPORT(encode_planes);
HWY_EXPORT(add_bytes);
HWY_EXPORT(add_planes);

namespace {

constexpr std::size_t buckets(std::size_t elements) {
    return (elements + QsgdRule::kBucket - 1) / QsgdRule::kBucket;
}

constexpr std::size_t plane_bytes(std::size_t elements) {
    return (elements + 7) / 8;
}

} // namespace

std::size_t QsgdRule::chunk_bytes(std::size_t elements) const {
    const std::size_t levels = bits_ == 8 ? elements : static_cast<std::size_t>(bits_) * plane_bytes(elements);
    return buckets(elements) * sizeof(float) + levels;
}

std::optional<std::size_t> QsgdRule::encode(std::span<const float> values, const Draw& draw,
                                            std::span<std::byte> out) const {
    const std::uint64_t key = draw.key();
    std::byte* const packed = out.data() + buckets(values.size()) * sizeof(float);
    for (std::size_t bucket = 0; bucket < buckets(values.size()); ++bucket) {
        const std::size_t from = bucket * kBucket;
        const auto of = values.subspan(from, std::min(kBucket, values.size() - from));
        const float norm = std::sqrt(HWY_DYNAMIC_DISPATCH(sum_of_squares)(of));
        if (!std::isfinite(norm)) return std::nullopt; // so is then one of the values, or the square of one
        store(out, bucket * sizeof norm, norm);
        float per_level = norm > 0 ? static_cast<float>(levels()) / norm : 0;
        if (!std::isfinite(per_level)) per_level = 0; // a norm that small is as good as none
        if (bits_ == 8) {
            HWY_DYNAMIC_DISPATCH(encode_bytes)(values.data(), from, of.size(), per_level, levels(), key, packed);
        } else {
            HWY_DYNAMIC_DISPATCH(encode_planes)
            (values.data(), from, of.size(), per_level, levels(), key, bits_, plane_bytes(values.size()), packed);
        }
    }
    return chunk_bytes(values.size());
}

Reason QsgdRule::check(const EncodedChunk& chunk) const {
    for (std::size_t bucket = 0; bucket < buckets(chunk.elements); ++bucket) {
        const float norm = load_nth<float>(chunk.bytes, bucket);
        if (!std::isfinite(norm)) return Reason::not_finite;
        if (norm < 0) return Reason::malformed;
        // The level one above the largest can be written too, and must not overflow.
        if (!std::isfinite(norm / static_cast<float>(levels()) * static_cast<float>(levels() + 1)))
            return Reason::not_finite;
    }
    return Reason::none;
}

void QsgdRule::add(const EncodedChunk& chunk, float coefficient, bool continues, std::span<float> sum) const {
    const std::byte* const packed = chunk.bytes.data() + buckets(chunk.elements) * sizeof(float);
    for (std::size_t bucket = 0; bucket < buckets(chunk.elements); ++bucket) {
        const std::size_t from = bucket * kBucket;
        const auto to = sum.subspan(from, std::min(kBucket, sum.size() - from));
        const float step = load_nth<float>(chunk.bytes, bucket) / static_cast<float>(levels());
        if (bits_ == 8) {
            HWY_DYNAMIC_DISPATCH(add_bytes)(packed + from, step, coefficient, continues, to);
        } else {
            HWY_DYNAMIC_DISPATCH(add_planes)
            (packed + from / 8, plane_bytes(chunk.elements), bits_, levels(), step, coefficient, continues, to);
        }
    }
}

} // namespace lategrad
#endif
