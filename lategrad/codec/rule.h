/// What an encoding says of one chunk. Each is one file and one line in find_rule (codec.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>

#include "lategrad/codec/codec.h"

namespace lategrad {

/// An encoded chunk, without the lossless stage that it may have travelled in.
struct EncodedChunk {
    std::span<const std::byte> preamble; ///< of the payload
    std::span<const std::byte> bytes;
    std::size_t index = 0;
    std::size_t first = 0; ///< element
    std::size_t elements = 0;
};

/// Stateless: one instance serves all workers and all threads.
class Rule {
  public:
    virtual ~Rule() = default;

    /// Error feedback (Karimireddy et al. 2019, algorithm 1): what the encoding leaves out joins the next gradient.
    virtual bool error_feedback() const = 0;
    /// Whether encoders have the run's momentum (CodecSetup), so that the server must not have it too.
    virtual bool takes_momentum() const { return false; }

    /// Whether what is decoded is what was encoded, bit for bit.
    virtual bool exact() const { return false; }
    /// Whether the expectation of what is decoded is what was encoded, while it may be much longer than that.
    virtual bool unbiased() const { return false; }

    /// Bytes of a chunk of so many elements: exactly, or at most where `variable`.
    virtual std::size_t chunk_bytes(std::size_t elements) const = 0;
    virtual bool variable() const { return false; }
    /// Of all chunks of so many elements together at most, where that is less than the sum of theirs.
    virtual std::size_t bytes_max(std::size_t /*elements*/) const { return std::numeric_limits<std::size_t>::max(); }
    /// About how many they are, where they vary.
    virtual double bytes_per_element() const { return static_cast<double>(chunk_bytes(4096)) / 4096; }
    /// Bytes of a value, whose bytes are shuffled before the lossless stage; 1: a shuffle does not pay.
    virtual std::size_t word() const { return 1; }

    /// What stands before the chunks, for all of them.
    virtual std::size_t preamble_bytes() const { return 0; }
    virtual Reason check_preamble(std::span<const std::byte>) const { return Reason::none; }

    /// Anything may be in it. REQUIRES: its preamble has passed.
    virtual Reason check(const EncodedChunk& chunk) const = 0;
    /// sum[i] = c·g[i], or sum[i] + c·g[i] where it `continues`; product and sum rounded by themselves. REQUIRES: it
    /// has passed; sum.size() == chunk.elements.
    virtual void add(const EncodedChunk& chunk, float coefficient, bool continues, std::span<float> sum) const = 0;

    virtual std::unique_ptr<Encoder> make_encoder(const class ChunkedCodec& codec, WorkerId worker,
                                                  BufferPool& payloads) const = 0;
};

} // namespace lategrad
