#include "lategrad/codec/randk.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "lategrad/codec/finite.h"
#include "lategrad/core/bytes.h"
#include "lategrad/core/error.h"
#include "lategrad/core/random.h"

namespace lategrad {
namespace {

constexpr std::size_t kWord = 64;

/// The places that a chunk sends, a bit each.
class Places {
  public:
    Places(const ChunkRule::Draw& draw, double share, std::size_t elements) : words_((elements + kWord - 1) / kWord) {
        CHECK(elements <= Codec::kChunkMax);
        RandomStream random(draw.seed, Purpose::codec, {draw.chunk, 1});
        const double expected = share * static_cast<double>(elements);
        count_ = static_cast<std::size_t>(expected);
        if (random.uniform() < expected - std::floor(expected)) ++count_;
        // Floyd's algorithm (Bentley and Floyd 1987): count_ of elements, every subset as likely.
        for (std::size_t last = elements - count_; last < elements; ++last) {
            const std::size_t place = random.below(last + 1);
            set(is_set(place) ? last : place);
        }
    }

    std::size_t count() const { return count_; }

    /// Calls `at(number, place)` for each, ascending.
    template <class At>
    void for_each(const At& at) const {
        std::size_t number = 0;
        for (std::size_t word = 0; word < words_; ++word) {
            for (std::uint64_t left = bits_[word]; left != 0; left &= left - 1) {
                at(number++, word * kWord + static_cast<std::size_t>(std::countr_zero(left)));
            }
        }
    }

  private:
    bool is_set(std::size_t place) const { return (bits_[place / kWord] >> (place % kWord) & 1) != 0; }
    void set(std::size_t place) { bits_[place / kWord] |= std::uint64_t{1} << (place % kWord); }

    std::array<std::uint64_t, Codec::kChunkMax / kWord> bits_{};
    std::size_t words_;
    std::size_t count_ = 0;
};

Places places_of(const EncodedChunk& chunk, double share) {
    return Places({.seed = load<std::uint64_t>(chunk.preamble), .chunk = chunk.index}, share, chunk.elements);
}

} // namespace

std::size_t RandKRule::chunk_bytes(std::size_t elements) const {
    return std::min(elements, static_cast<std::size_t>(share_ * static_cast<double>(elements)) + 1) * sizeof(float);
}

std::optional<std::size_t> RandKRule::encode(std::span<const float> values, const Draw& draw,
                                             std::span<std::byte> out) const {
    // All of them: what is not sent joins the residual.
    if (!all_finite(values)) return std::nullopt;
    const Places places(draw, share_, values.size());
    places.for_each([&](std::size_t number, std::size_t place) { store(out, number * sizeof(float), values[place]); });
    return places.count() * sizeof(float);
}

Reason RandKRule::check(const EncodedChunk& chunk) const {
    if (chunk.bytes.size() != places_of(chunk, share_).count() * sizeof(float)) return Reason::malformed;
    return all_finite(chunk.bytes) ? Reason::none : Reason::not_finite;
}

void RandKRule::add(const EncodedChunk& chunk, float coefficient, bool continues, std::span<float> sum) const {
    if (!continues) std::ranges::fill(sum, 0.0F);
    places_of(chunk, share_).for_each([&](std::size_t number, std::size_t place) {
        const float product = coefficient * load_nth<float>(chunk.bytes, number);
        sum[place] += product;
    });
}

} // namespace lategrad
