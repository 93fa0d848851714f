#include "lategrad/codec/norm.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace lategrad {
namespace {

constexpr std::size_t kLanes = 16;

/// Σ x², in double, since squares of floats overflow floats.
double sum_of_squares(std::span<const float> values) {
    std::array<double, kLanes> lanes{};
    std::size_t i = 0;
    for (; i + kLanes <= values.size(); i += kLanes) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
            const double value = values[i + lane];
            lanes[lane] += value * value;
        }
    }
    for (std::size_t lane = 0; i < values.size(); ++i, ++lane) {
        const double value = values[i];
        lanes[lane] += value * value;
    }
    double sum = 0;
    for (const double lane : lanes) sum += lane;
    return sum;
}

} // namespace

double gradient_norm(const Codec& codec, std::span<const std::byte> payload, std::size_t elements) {
    const EncodedTerm term{payload, 1.0F};
    alignas(64) std::array<float, Codec::kChunkMax> scratch;
    double squares = 0;
    for (std::size_t first = 0; first < elements; first += codec.chunk()) {
        const std::span<float> chunk(scratch.data(), std::min(codec.chunk(), elements - first));
        codec.weighted_sum({&term, 1}, first, chunk);
        squares += sum_of_squares(chunk);
    }
    return std::sqrt(squares);
}

} // namespace lategrad
