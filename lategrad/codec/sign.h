#pragma once

#include "lategrad/codec/chunk_encoder.h"

namespace lategrad {

/// `signsgd`: the sign of each entry times the mean magnitude, with error feedback (Karimireddy et al. 2019, algorithm
/// 1, "EF-signSGD"), 1 bit per entry. The mean is each chunk's own: the contraction by the density ‖p‖₁²/(d·‖p‖₂²) of
/// what is encoded holds for each chunk, and so for all.
///
/// A chunk is its mean magnitude (float), then a bit per entry, 1 for negative.
class SignRule final : public ChunkRule {
  public:
    std::size_t chunk_bytes(std::size_t elements) const override { return sizeof(float) + (elements + 7) / 8; }
    bool error_feedback() const override { return true; }
    std::optional<std::size_t> encode(std::span<const float> values, const Draw& draw,
                                      std::span<std::byte> out) const override;
    Reason check(const EncodedChunk& chunk) const override;
    void add(const EncodedChunk& chunk, float coefficient, bool continues, std::span<float> sum) const override;
};

} // namespace lategrad
