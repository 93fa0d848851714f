#pragma once

#include "lategrad/codec/chunk_encoder.h"

namespace lategrad {

/// `fp16` (IEEE 754 binary16) and `bf16` (the upper half of a float32): rounded to the nearest, ties to even, subnormal
/// numbers kept. No error feedback: what rounding leaves out is small and has no sign. What would become infinite is
/// not encoded.
class HalfRule final : public ChunkRule {
  public:
    enum class Format { fp16, bf16 };
    explicit HalfRule(Format format) : format_(format) {}

    std::size_t chunk_bytes(std::size_t elements) const override { return 2 * elements; }
    std::size_t word() const override { return 2; }
    bool error_feedback() const override { return false; }
    std::optional<std::size_t> encode(std::span<const float> values, const Draw& draw,
                                      std::span<std::byte> out) const override;
    Reason check(const EncodedChunk& chunk) const override;
    void add(const EncodedChunk& chunk, float coefficient, bool continues, std::span<float> sum) const override;

  private:
    Format format_;
};

} // namespace lategrad
