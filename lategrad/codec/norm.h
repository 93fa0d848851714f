/// The length of an encoded gradient, by which a server knows one that is out of all proportion.
#pragma once

#include <cstddef>
#include <span>

#include "lategrad/codec/codec.h"

namespace lategrad {

/// ‖g‖₂ of the first `elements` values that a payload decodes to. The same on every machine: sums are of fixed lanes in
/// a fixed order. REQUIRES: codec.validate(payload) == none.
double gradient_norm(const Codec& codec, std::span<const std::byte> payload, std::size_t elements);

} // namespace lategrad
