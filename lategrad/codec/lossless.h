/// The lossless stage behind a rule: each chunk is compressed by itself, so that the update can decode it by itself.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

namespace lategrad {

/// Thread-safe.
class Lossless {
  public:
    virtual ~Lossless() = default;

    /// Bytes written to `out`, which is as long as `in`; nothing where it would become no shorter. `word`: a byte
    /// shuffle over values of so many bytes goes before; 1: none.
    virtual std::optional<std::size_t> compress(std::span<const std::byte> in, std::size_t word,
                                                std::span<std::byte> out) const = 0;

    /// Bytes written to `out`; nothing where `in` is not what compress has made of at most out.size() bytes. Anything
    /// may be in it.
    virtual std::optional<std::size_t> decompress(std::span<const std::byte> in, std::size_t word,
                                                  std::span<std::byte> out) const = 0;
};

/// `lz4`, `zstd`, `zstd:LEVEL` or `blosc`; null where `spec` is none of them. Throws InputError, which says only what
/// was expected, for a LEVEL out of range.
std::unique_ptr<Lossless> make_lossless(std::string_view spec);

} // namespace lategrad
