#pragma once

#include "lategrad/codec/chunk_encoder.h"

namespace lategrad {

/// `terngrad`: each entry becomes s·sign(g)·b with b one with probability |g|/s, where s is the largest magnitude (Wen
/// et al. 2017, equations 1 to 3): unbiased, 2 bits per entry. Gradients are clipped at 2.5 times their deviation
/// before (their gradient clipping), which is their root mean square here. Scale and deviation are each chunk's own, a
/// finer division than the layers of the source.
///
/// A chunk is s (float), a bit per entry that is 1 where it is not zero, a bit per entry that is 1 where it is
/// negative.
class TernRule final : public ChunkRule {
  public:
    static constexpr float kClip = 2.5F;

    std::size_t chunk_bytes(std::size_t elements) const override { return sizeof(float) + 2 * ((elements + 7) / 8); }
    bool error_feedback() const override { return false; }
    bool unbiased() const override { return true; }
    std::optional<std::size_t> encode(std::span<const float> values, const Draw& draw,
                                      std::span<std::byte> out) const override;
    Reason check(const EncodedChunk& chunk) const override;
    void add(const EncodedChunk& chunk, float coefficient, bool continues, std::span<float> sum) const override;
};

} // namespace lategrad
