/// What the tests of encodings share: gradients, and one codec with all that it needs to encode and decode them.
#pragma once

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numbers>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lategrad/codec/codec.h"
#include "lategrad/core/random.h"

namespace lategrad {

inline std::vector<float> gaussian(RandomStream& stream, std::size_t size, double deviation = 1) {
    std::vector<float> values(size);
    for (float& value : values) {
        const double radius = std::sqrt(-2 * std::log1p(-stream.uniform())); // Box and Muller
        value = static_cast<float>(deviation * radius * std::cos(2 * std::numbers::pi * stream.uniform()));
    }
    return values;
}

inline std::vector<float> gaussian(std::uint64_t seed, std::size_t size, double deviation = 1) {
    RandomStream stream(seed, Purpose::test);
    return gaussian(stream, size, deviation);
}

/// A matrix of about half of the elements between two vectors.
inline std::vector<MatrixShape> some_tensors(std::size_t elements) {
    const auto side = static_cast<std::size_t>(std::sqrt(static_cast<double>(elements) / 2));
    std::vector<MatrixShape> tensors;
    if (const std::size_t before = elements / 5; before > 0) tensors.push_back({.rows = 1, .columns = before});
    if (side > 0) tensors.push_back({.rows = side, .columns = side});
    const std::size_t behind = elements - elements / 5 - side * side;
    if (behind > 0) tensors.push_back({.rows = 1, .columns = behind});
    return tensors;
}

inline CodecSetup setup_of(std::size_t elements, std::size_t tail = 0) {
    return {.elements = elements, .tail = tail, .tensors = some_tensors(elements), .seed = 11};
}

inline std::vector<std::byte> bytes_of(const Buffer& buffer) {
    return {buffer.data(), buffer.data() + buffer.bytes()};
}

inline double squared_norm(std::span<const float> values) {
    double squares = 0;
    for (const float value : values) squares += static_cast<double>(value) * value;
    return squares;
}

inline double squared_distance(std::span<const float> a, std::span<const float> b) {
    double squares = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        squares += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    return squares;
}

/// A codec and its memory. Encoders are made from it.
class Coding {
  public:
    Coding(std::string_view spec, const CodecSetup& setup) : setup_(setup), codec_(make_codec(spec, setup)) {}
    Coding(std::string_view spec, std::size_t elements, std::size_t tail = 0)
        : Coding(spec, setup_of(elements, tail)) {}

    const Codec& codec() const { return *codec_; }
    const CodecSetup& setup() const { return setup_; }
    std::unique_ptr<Encoder> encoder(std::uint32_t worker = 0) { return codec_->make_encoder(WorkerId(worker), pool_); }

    Buffer buffer(std::span<const float> values) {
        Buffer buffer = pool_.lease(values.size_bytes());
        std::ranges::copy(values, buffer.floats().begin());
        return buffer;
    }

    /// `grad` is elements and tail.
    Buffer encode(Encoder& encoder, std::span<const float> grad, std::uint64_t step = 0, float residual_scale = 1) {
        return encoder.encode(buffer(grad), {.step = Step(step), .residual_scale = residual_scale});
    }
    Buffer encode(std::span<const float> grad, std::uint64_t step = 0) { return encode(*encoder(), grad, step); }

    std::vector<float> weighted_sum(std::span<const EncodedTerm> terms) const {
        std::vector<float> sum(setup_.elements, 7); // what was there before does not matter
        for (std::size_t first = 0; first < sum.size(); first += codec_->chunk()) {
            codec_->weighted_sum(terms, first,
                                 std::span(sum).subspan(first, std::min(codec_->chunk(), sum.size() - first)));
        }
        return sum;
    }
    std::vector<float> decode(std::span<const std::byte> payload) const {
        const EncodedTerm term{.payload = payload, .coefficient = 1};
        return weighted_sum({&term, 1});
    }
    std::vector<float> decode(const Buffer& payload) const { return decode({payload.data(), payload.bytes()}); }

    Reason validate(std::span<const std::byte> payload) const { return codec_->validate(payload); }
    Reason validate(const Buffer& payload) const { return validate({payload.data(), payload.bytes()}); }

  private:
    CodecSetup setup_;
    std::unique_ptr<Codec> codec_;
    BufferPool pool_{std::size_t{1} << 30};
};

/// Makes the checksum right again, so that what was changed in the payload reaches the checks behind it (chunked.h).
inline void reseal(std::span<std::byte> payload) {
    if (payload.size() < sizeof(std::uint64_t)) return;
    const std::uint64_t sum = XXH3_64bits(payload.data() + sizeof sum, payload.size() - sizeof sum);
    std::memcpy(payload.data(), &sum, sizeof sum);
}

} // namespace lategrad
