#pragma once

#include "lategrad/codec/chunk_encoder.h"

namespace lategrad {

/// `randk:R`: R of the entries, drawn at random, with error feedback (Stich et al. 2018, algorithm 1; contraction 1 − R
/// in expectation, their definition 2.1). Both sides draw the places from a seed in the payload, so that they do not
/// travel. Each chunk sends its own share of R: every entry has the same chance.
///
/// A chunk is the values at the drawn places (floats), ascending.
class RandKRule final : public ChunkRule {
  public:
    /// REQUIRES: 0 < share ≤ 1.
    explicit RandKRule(double share) : share_(share) {}

    std::size_t chunk_bytes(std::size_t elements) const override;
    bool variable() const override { return true; }
    double bytes_per_element() const override { return share_ * sizeof(float); }
    std::size_t word() const override { return sizeof(float); }
    std::size_t preamble_bytes() const override { return sizeof(std::uint64_t); }
    bool error_feedback() const override { return true; }
    std::optional<std::size_t> encode(std::span<const float> values, const Draw& draw,
                                      std::span<std::byte> out) const override;
    Reason check(const EncodedChunk& chunk) const override;
    void add(const EncodedChunk& chunk, float coefficient, bool continues, std::span<float> sum) const override;

  private:
    double share_;
};

} // namespace lategrad
