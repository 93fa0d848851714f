#include "lategrad/codec/chunk_encoder.h"

#include <algorithm>
#include <cstring>

#include "lategrad/codec/finite.h"
#include "lategrad/core/bytes.h"
#include "lategrad/core/random.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lategrad/codec/chunk_encoder.cpp"
#include <hwy/foreach_target.h>
//
#include <hwy/highway.h>

#include "lategrad/core/for_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lategrad::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

/// residual = grad + scale·residual; `before` becomes what it was.
void join(std::span<const float> grad, float scale, std::span<float> residual, std::span<float> before) {
    for_vectors(grad.size(), [&](auto d, std::size_t i) HWY_ATTR {
        const auto left = hn::LoadU(d, residual.data() + i);
        hn::StoreU(left, d, before.data() + i);
        hn::StoreU(hn::Add(hn::LoadU(d, grad.data() + i), hn::Mul(hn::Set(d, scale), left)), d, residual.data() + i);
    });
}

} // namespace
} // namespace lategrad::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lategrad {

HWY_EXPORT(join);

std::unique_ptr<Encoder> ChunkRule::make_encoder(const ChunkedCodec& codec, WorkerId worker,
                                                 BufferPool& payloads) const {
    return std::make_unique<ChunkEncoder>(*this, codec, worker, payloads);
}

std::uint64_t ChunkRule::Draw::key() const {
    return RandomStream(seed, Purpose::codec, {chunk})();
}

ChunkEncoder::ChunkEncoder(const ChunkRule& rule, const ChunkedCodec& codec, WorkerId worker, BufferPool& payloads)
    : ChunkedEncoder(codec, payloads),
      rule_(rule),
      worker_(worker),
      before_(rule.error_feedback() ? codec.chunk() : 0) {}

Buffer ChunkEncoder::encode_checked(std::span<const float> all, std::span<const float> tail, const EncodeStep& step) {
    const ChunkRule::Draw payload{
        .seed = RandomStream(codec_.setup().seed, Purpose::codec, {worker_.value(), step.step.value()})()};
    const auto preamble = writer_.begin();
    if (!preamble.empty()) store(preamble, 0, payload.seed);

    for (std::size_t i = 0; i < codec_.chunks(); ++i) {
        const std::size_t size = codec_.chunk_size(i);
        const auto from = all.subspan(i * codec_.chunk(), size);
        const auto residual =
            residual_.empty() ? std::span<float>() : std::span(residual_).subspan(i * codec_.chunk(), size);
        if (!residual.empty()) HWY_DYNAMIC_DISPATCH(join)(from, step.residual_scale, residual, before_);
        std::span<const float> values = residual.empty() ? from : residual;
        if (size % ChunkRule::kPadding != 0) { // the last chunk
            padded_.assign(values.begin(), values.end());
            padded_.resize(size + ChunkRule::kPadding - size % ChunkRule::kPadding);
            values = std::span(padded_).first(size);
        }

        const auto out = writer_.room();
        const auto bytes = rule_.encode(values, {payload.seed, i}, out);
        if (!bytes) {
            if (!residual.empty()) std::memcpy(residual.data(), before_.data(), residual.size_bytes());
            undo(all, i * codec_.chunk(), step.residual_scale);
            return {};
        }
        if (!residual.empty()) {
            rule_.add({.preamble = preamble,
                       .bytes = out.first(*bytes),
                       .index = i,
                       .first = i * codec_.chunk(),
                       .elements = size},
                      -1, true, residual);
        }
        writer_.add(*bytes);
    }
    return writer_.finish(tail);
}

/// The first `elements` of the residual become what they were, to the rounding of their sums with the gradient.
void ChunkEncoder::undo(std::span<const float> grad, std::size_t elements, float scale) {
    if (residual_.empty()) return;
    writer_.add_written(1, residual_);
    for (std::size_t i = 0; i < elements; ++i) residual_[i] = unscaled(residual_[i] - grad[i], scale);
}

} // namespace lategrad
#endif
