/// The byte shuffle that goes before a compressor: the first bytes of all values, then all second bytes, …; what varies
/// least in a value, its sign and exponent, comes together so.
#pragma once

#include <cstddef>
#include <span>

namespace lategrad {

/// Values of `word` bytes; bytes behind the last whole value stay where they are. REQUIRES: in.size() == out.size(),
/// apart.
void shuffle(std::span<const std::byte> in, std::size_t word, std::span<std::byte> out);
void unshuffle(std::span<const std::byte> in, std::size_t word, std::span<std::byte> out);

} // namespace lategrad
