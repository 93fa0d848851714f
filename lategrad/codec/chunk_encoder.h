/// Encodes a gradient chunk by chunk, each in cache, with or without error feedback.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "lategrad/codec/chunked.h"

namespace lategrad {

/// A rule whose chunks can be encoded one by one.
class ChunkRule : public Rule {
  public:
    /// What a chunk's random numbers follow from: the same on both sides, different for every chunk.
    struct Draw {
        std::uint64_t seed = 0; ///< of this payload
        std::size_t chunk = 0;
        std::uint64_t key() const; ///< of both
    };

    /// Bytes written; nothing where a value, or what it would become, is not finite. `values` is followed by zeros up
    /// to a multiple of kPadding.
    virtual std::optional<std::size_t> encode(std::span<const float> values, const Draw& draw,
                                              std::span<std::byte> out) const = 0;

    std::unique_ptr<Encoder> make_encoder(const ChunkedCodec& codec, WorkerId worker, BufferPool& payloads) const final;

    static constexpr std::size_t kPadding = 8;
};

class ChunkEncoder final : public ChunkedEncoder {
  public:
    ChunkEncoder(const ChunkRule& rule, const ChunkedCodec& codec, WorkerId worker, BufferPool& payloads);

  private:
    Buffer encode_checked(std::span<const float> all, std::span<const float> tail, const EncodeStep& step) override;
    void undo(std::span<const float> grad, std::size_t elements, float scale);

    const ChunkRule& rule_;
    WorkerId worker_;
    std::vector<float> before_; ///< the residual of one chunk, which alone may hold what has overflowed
    std::vector<float> padded_; ///< the last chunk's values
};

} // namespace lategrad
