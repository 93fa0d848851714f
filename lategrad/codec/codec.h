/// Gradient encodings. A payload stays encoded from the worker until the update that applies it: the server validates
/// it once, on arrival, and the update decodes it chunk by chunk.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "lategrad/core/buffer.h"
#include "lategrad/core/fate.h"

namespace lategrad {

/// One gradient of a weighted sum. Does not own its payload.
struct EncodedTerm {
    std::span<const std::byte> payload;
    float coefficient = 0;
};

/// Stateless on the server's side: one instance serves all workers and all threads.
class Codec {
  public:
    virtual ~Codec() = default;

    /// As on the command line (`--codec`).
    virtual std::string_view name() const = 0;

    /// Worker side. The encoded form of `grad`; may be `grad` itself.
    virtual Buffer encode(const Buffer& grad) = 0;

    /// Reads the payload once, while it is in cache: its structure for `elements` floats, and that all are finite.
    /// Returns none, malformed or not_finite. Anything may be in it: never throws.
    virtual Reason validate(std::span<const std::byte> payload, std::size_t elements) const = 0;

    /// sum[i] = (c₀·g₀[first + i] + c₁·g₁[first + i]) + …, in the order of `terms`, each product and each sum rounded
    /// to float by itself. All terms at once, because reading several payloads side by side is faster than one after
    /// the other. Cannot fail. REQUIRES: at least one term; validate(payload) == none for each; first + sum.size() ≤
    /// its elements.
    virtual void weighted_sum(std::span<const EncodedTerm> terms, std::size_t first, std::span<float> sum) const = 0;
};

/// The codec of that name. Throws InputError, naming those there are.
std::unique_ptr<Codec> make_codec(std::string_view spec);

} // namespace lategrad
