#pragma once

#include "lategrad/codec/chunk_encoder.h"

namespace lategrad {

/// Floats as they are, for a lossless stage to follow: `lz4`, `zstd` and `blosc` by themselves. (`none`, which has no
/// chunks to find, is RawCodec.)
class Float32Rule final : public ChunkRule {
  public:
    std::size_t chunk_bytes(std::size_t elements) const override { return elements * sizeof(float); }
    std::size_t word() const override { return sizeof(float); }
    bool error_feedback() const override { return false; }
    bool exact() const override { return true; }
    std::optional<std::size_t> encode(std::span<const float> values, const Draw& draw,
                                      std::span<std::byte> out) const override;
    Reason check(const EncodedChunk& chunk) const override;
    void add(const EncodedChunk& chunk, float coefficient, bool continues, std::span<float> sum) const override;
};

} // namespace lategrad
