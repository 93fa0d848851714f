#include "lategrad/codec/float32.h"

#include <cstring>

#include "lategrad/codec/finite.h"
#include "lategrad/core/bytes.h"

namespace lategrad {
std::optional<std::size_t> Float32Rule::encode(std::span<const float> values, const Draw&,
                                               std::span<std::byte> out) const {
    std::memcpy(out.data(), values.data(), values.size_bytes());
    return all_finite(values) ? std::optional(values.size_bytes()) : std::nullopt;
}

Reason Float32Rule::check(const EncodedChunk& chunk) const {
    return all_finite(chunk.bytes) ? Reason::none : Reason::not_finite;
}

void Float32Rule::add(const EncodedChunk& chunk, float coefficient, bool continues, std::span<float> sum) const {
    if (!continues) {
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = coefficient * load_nth<float>(chunk.bytes, i);
        return;
    }
    for (std::size_t i = 0; i < sum.size(); ++i) {
        const float product = coefficient * load_nth<float>(chunk.bytes, i);
        sum[i] += product;
    }
}

} // namespace lategrad
