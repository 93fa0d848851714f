#pragma once

#include <vector>

#include "lategrad/codec/chunked.h"

namespace lategrad {

/// `lowrank:R`: each matrix M becomes P·Qᵀ of rank R (PowerSGD, Vogels et al. 2019, algorithms 1 and 2): one step of
/// subspace iteration that starts from the last Q, with error feedback. Where the source sums P and Q over all workers,
/// here each worker sends both of its own, so that any k of n can be applied; the decoded sum has rank up to k·R.
/// Convolutions are matrices with a row per output channel; vectors, and matrices that would not become shorter, travel
/// as floats.
///
/// All of it stands in the preamble, as floats: per tensor P (rows × rank) and Qᵀ (rank × columns), or its elements.
/// Chunks are empty.
class LowRankRule final : public Rule {
  public:
    /// A tensor in the preamble.
    struct Piece {
        std::size_t first; ///< element
        std::size_t rows, columns;
        std::size_t rank; ///< 0: its elements
        std::size_t at;   ///< float of the preamble
        std::size_t elements() const { return rows * columns; }
        std::size_t floats() const { return rank == 0 ? elements() : rank * (rows + columns); }
    };

    LowRankRule(std::size_t rank, const CodecSetup& setup);

    bool error_feedback() const override { return true; }
    std::size_t chunk_bytes(std::size_t) const override { return 0; }
    double bytes_per_element() const override { return 0; }
    std::size_t preamble_bytes() const override { return floats_ * sizeof(float); }
    Reason check_preamble(std::span<const std::byte> preamble) const override;
    Reason check(const EncodedChunk&) const override { return Reason::none; }
    void add(const EncodedChunk& chunk, float coefficient, bool continues, std::span<float> sum) const override;
    std::unique_ptr<Encoder> make_encoder(const ChunkedCodec& codec, WorkerId worker,
                                          BufferPool& payloads) const override;

    const std::vector<Piece>& pieces() const { return pieces_; }

  private:
    std::vector<Piece> pieces_;
    std::size_t floats_ = 0;
};

} // namespace lategrad
