#pragma once

#include "lategrad/codec/chunk_encoder.h"

namespace lategrad {

/// `qsgd:BITS`: each entry is rounded at random to one of s = 2^(BITS−1) − 1 levels of its bucket's Euclidean norm, up
/// or down so that the expectation is the entry (Alistarh et al. 2017, section 3.1): unbiased, with variance ≤
/// min(d/s², √d/s)·‖v‖² in a bucket of d = 512 entries (their lemma 3.1). BITS from 2 to 8. In place of their Elias
/// code, which cannot be decoded in chunks, levels are packed into BITS bits each; a lossless stage may follow.
///
/// A chunk is its buckets' norms (floats), then the levels: for 8 bits a signed byte each; else level + s as BITS
/// planes of a bit per entry, lowest bit first.
class QsgdRule final : public ChunkRule {
  public:
    static constexpr std::size_t kBucket = 512;

    /// REQUIRES: 2 ≤ bits ≤ 8.
    explicit QsgdRule(int bits) : bits_(bits) {}

    std::size_t chunk_bytes(std::size_t elements) const override;
    bool error_feedback() const override { return false; }
    bool unbiased() const override { return true; }
    std::optional<std::size_t> encode(std::span<const float> values, const Draw& draw,
                                      std::span<std::byte> out) const override;
    Reason check(const EncodedChunk& chunk) const override;
    void add(const EncodedChunk& chunk, float coefficient, bool continues, std::span<float> sum) const override;

    /// s: how many levels there are above zero.
    int levels() const { return (1 << (bits_ - 1)) - 1; }

  private:
    int bits_;
};

} // namespace lategrad
