/// The payload around the chunks of a rule, little-endian:
///
///     offset  bytes
///          0      8  XXH3 of all that follows
///          8      4  which codec (low half of the XXH3 of its name, seeded with the number of elements)
///         12      4  bytes of the chunks together
///         16         preamble of the rule, padded to 4
///                    where chunks vary: the end of each chunk, 4 bytes, from the first one's begin
///                    chunks, together padded to 4
///                    tail: floats as they lie in memory
///
/// With a lossless stage each chunk begins with a byte that says whether it is compressed (1) or stored (0).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lategrad/codec/codec.h"
#include "lategrad/codec/lossless.h"
#include "lategrad/codec/rule.h"
#include "lategrad/core/large_vector.h"

namespace lategrad {

class ChunkedCodec final : public Codec {
  public:
    /// `lossless` may be null.
    ChunkedCodec(std::string name, std::unique_ptr<Rule> rule, std::unique_ptr<Lossless> lossless,
                 const CodecSetup& setup);

    const std::string& name() const override { return name_; }
    bool exact() const override { return rule_->exact(); }
    bool error_feedback() const override { return rule_->error_feedback(); }
    bool takes_momentum() const override { return rule_->takes_momentum(); }
    std::size_t chunk() const override { return chunk_; }
    std::size_t payload_bytes_max() const override;
    std::size_t payload_bytes_typical() const override;
    std::unique_ptr<Encoder> make_encoder(WorkerId worker, BufferPool& payloads) const override;
    Reason validate(std::span<const std::byte> payload) const override;
    void weighted_sum(std::span<const EncodedTerm> terms, std::size_t first, std::span<float> sum) const override;
    std::span<const float> tail(std::span<const std::byte> payload) const override;

    const CodecSetup& setup() const { return setup_; }
    const Rule& rule() const { return *rule_; }
    /// Whether a lossless stage follows the rule.
    bool has_stage() const { return lossless_ != nullptr; }
    std::size_t chunks() const { return chunks_; }
    std::size_t chunk_size(std::size_t index) const { return std::min(chunk_, setup_.elements - index * chunk_); }

    /// Without its lossless stage; lasts until this thread decodes another one. REQUIRES: the payload has passed, or
    /// comes from here; index < chunks().
    EncodedChunk opened_chunk(std::span<const std::byte> payload, std::size_t index) const;
    /// sum[i] += coefficient · (what the first `chunks` chunks hold). REQUIRES: they have passed, or come from here.
    void add_chunks(std::span<const std::byte> payload, std::size_t chunks, float coefficient,
                    std::span<float> sum) const;

  private:
    friend class PayloadWriter;

    bool has_table() const { return lossless_ || rule_->variable(); }
    std::size_t table_at() const;
    std::size_t chunks_at() const;
    /// All but the chunks.
    std::size_t bytes_around() const;
    std::size_t stored_bytes_max(std::size_t index) const;
    /// Where the payload says that the chunk lies. REQUIRES: the payload is as long as its header says.
    std::span<const std::byte> stored_chunk(std::span<const std::byte> payload, std::size_t index) const;
    /// Without its lossless stage, which may use `room`. Nothing where it cannot be decompressed.
    std::optional<EncodedChunk> open_chunk(std::span<const std::byte> payload, std::size_t index,
                                           std::vector<std::byte>& room) const;

    std::string name_;
    std::unique_ptr<Rule> rule_;
    std::unique_ptr<Lossless> lossless_;
    CodecSetup setup_;
    std::uint32_t kind_ = 0;
    std::size_t chunk_ = 0;
    std::size_t chunks_ = 0;
    std::size_t preamble_ = 0;         ///< padded
    std::size_t chunks_bytes_max_ = 0; ///< not padded
};

/// Writes one payload, chunk after chunk. Reused from payload to payload.
class PayloadWriter {
  public:
    /// Both outlive the writer.
    PayloadWriter(const ChunkedCodec& codec, BufferPool& payloads);

    /// Begins a payload. Returns its preamble, zeros, which may be written until `finish`.
    std::span<std::byte> begin();
    /// Room for the next chunk, as long as the rule's chunk may be.
    std::span<std::byte> room();
    /// The first `bytes` of that room are the chunk.
    void add(std::size_t bytes);
    /// What was added holds, times the coefficient, joins `sum`: for who gives a payload up.
    void add_written(float coefficient, std::span<float> sum) const;
    /// Lets go of what was begun.
    void give_up() { payload_.reset(); }
    /// REQUIRES: every chunk was added.
    Buffer finish(std::span<const float> tail);

  private:
    const ChunkedCodec& codec_;
    BufferPool& payloads_;
    std::vector<std::byte> varying_; ///< where payloads vary in length: as long as one may be, and a chunk's room
    std::vector<std::byte> room_;    ///< a chunk before its lossless stage
    Buffer payload_;                 ///< where they do not
    std::span<std::byte> bytes_;     ///< of either
    std::size_t index_ = 0;
    std::size_t end_ = 0; ///< of what is written
};

/// What the encoders of chunked payloads share.
class ChunkedEncoder : public Encoder {
  public:
    Buffer encode(const Buffer& grad, const EncodeStep& step) final;
    void refund(std::span<const std::byte> payload) final;
    std::span<const float> residual() const final { return residual_; }
    void persist(Archive& archive) override;

  protected:
    ChunkedEncoder(const ChunkedCodec& codec, BufferPool& payloads);

    const ChunkedCodec& codec_;
    PayloadWriter writer_;
    LargeVector<float> residual_; ///< empty without error feedback

  private:
    /// `encode` of a gradient whose tail is finite, and with error feedback its elements.
    virtual Buffer encode_checked(std::span<const float> elements, std::span<const float> tail,
                                  const EncodeStep& step) = 0;
};

} // namespace lategrad
