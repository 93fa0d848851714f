/// Chunks of which only some entries travel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "lategrad/codec/chunked.h"
#include "lategrad/core/bytes.h"

namespace lategrad {

/// The largest entries of the whole gradient, with error feedback. A chunk is the places of its entries in the chunk
/// (16 bits each, ascending), then their values (floats).
class SparseRule : public Rule {
  public:
    /// `share` of the entries is sent. REQUIRES: 0 < share ≤ 1.
    explicit SparseRule(double share) : share_(share) {}

    bool error_feedback() const final { return true; }
    std::size_t chunk_bytes(std::size_t elements) const final { return elements * kEntryBytes; }
    bool variable() const final { return true; }
    /// Of the values. Places are half as long: their high bytes come together too.
    std::size_t word() const final { return sizeof(float); }
    std::size_t bytes_max(std::size_t elements) const final { return count(share_at(0), elements) * kEntryBytes; }
    double bytes_per_element() const final { return share_ * kEntryBytes; }
    Reason check(const EncodedChunk& chunk) const final;
    void add(const EncodedChunk& chunk, float coefficient, bool continues, std::span<float> sum) const final;

    /// Calls `at(place in the chunk, value)` for each entry of a chunk that has passed, ascending.
    template <class At>
    static void for_each_entry(const EncodedChunk& chunk, const At& at);

    std::unique_ptr<Encoder> make_encoder(const ChunkedCodec& codec, WorkerId worker, BufferPool& payloads) const final;

    double share() const { return share_; }
    /// The share sent so many epochs into the run: never more than before.
    virtual double share_at(double /*epoch*/) const { return share_; }
    /// The largest norm of a gradient, times √workers; 0: any.
    virtual double clip() const { return 0; }
    /// Of so many entries: at least one.
    static std::size_t count(double share, std::size_t elements);

    static constexpr std::size_t kEntryBytes = sizeof(std::uint16_t) + sizeof(float);

  private:
    double share_;
};

template <class At>
void SparseRule::for_each_entry(const EncodedChunk& chunk, const At& at) {
    const std::size_t entries = chunk.bytes.size() / kEntryBytes;
    const auto values = chunk.bytes.subspan(entries * sizeof(std::uint16_t));
    for (std::size_t i = 0; i < entries; ++i) {
        at(std::size_t{load_nth<std::uint16_t>(chunk.bytes, i)}, load_nth<float>(values, i));
    }
}

/// Adds all chunks to `writer`: of `values` the entries at `places`, which ascend.
void write_entries(PayloadWriter& writer, const ChunkedCodec& codec, std::span<const std::uint32_t> places,
                   std::span<const float> values);

} // namespace lategrad
