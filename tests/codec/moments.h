/// Mean and scatter of what a random encoding decodes to, over many seeds.
#pragma once

#include <functional>
#include <vector>

#include "tests/codec/coding.h"

namespace lategrad {

struct Moments {
    std::vector<double> mean;
    std::vector<double> deviation_of_mean;
    double squared_error = 0; ///< mean of ‖C(v) − v‖²
    double along = 0; ///< mean of ⟨C(v), w⟩/‖w‖²: 1 where E C(v) = w; tells a bias of all entries together
    double deviation_of_along = 0;
};

/// Of `draws` encodings of `values`, each at its own step. `wanted`: w, the expectation.
inline Moments moments(Coding& coding, std::span<const float> values, std::span<const float> wanted, int draws) {
    std::vector<double> sum(values.size()), squares(values.size());
    double squared_along = 0;
    Moments result;
    const auto encoder = coding.encoder();
    for (int draw = 0; draw < draws; ++draw) {
        const auto decoded = coding.decode(coding.encode(*encoder, values, static_cast<std::uint64_t>(draw)));
        for (std::size_t i = 0; i < values.size(); ++i) {
            sum[i] += decoded[i];
            squares[i] += static_cast<double>(decoded[i]) * decoded[i];
        }
        result.squared_error += squared_distance(decoded, values) / draws;
        double along = 0;
        for (std::size_t i = 0; i < values.size(); ++i) along += static_cast<double>(decoded[i]) * wanted[i];
        along /= squared_norm(wanted);
        result.along += along / draws;
        squared_along += along * along / draws;
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
        const double mean = sum[i] / draws;
        result.mean.push_back(mean);
        result.deviation_of_mean.push_back(std::sqrt(std::max(0.0, squares[i] / draws - mean * mean) / draws));
    }
    result.deviation_of_along = std::sqrt(std::max(0.0, squared_along - result.along * result.along) / draws);
    return result;
}

inline Moments moments(Coding& coding, std::span<const float> values, int draws) {
    return moments(coding, values, values, draws);
}

} // namespace lategrad
