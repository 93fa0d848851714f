#pragma once

#include "lategrad/codec/codec.h"

namespace lategrad {

/// `none`: the payload is the float32 vector as it lies in memory, little-endian.
class RawCodec final : public Codec {
  public:
    std::string_view name() const override { return "none"; }
    Buffer encode(const Buffer& grad) override { return grad; }
    Reason validate(std::span<const std::byte> payload, std::size_t elements) const override;
    void weighted_sum(std::span<const EncodedTerm> terms, std::size_t first, std::span<float> sum) const override;
};

} // namespace lategrad
