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
};

/// Of `draws` encodings of `values`, each at its own step.
inline Moments moments(Coding& coding, std::span<const float> values, int draws) {
    std::vector<double> sum(values.size()), squares(values.size());
    Moments result;
    const auto encoder = coding.encoder();
    for (int draw = 0; draw < draws; ++draw) {
        const auto decoded = coding.decode(coding.encode(*encoder, values, static_cast<std::uint64_t>(draw)));
        for (std::size_t i = 0; i < values.size(); ++i) {
            sum[i] += decoded[i];
            squares[i] += static_cast<double>(decoded[i]) * decoded[i];
        }
        result.squared_error += squared_distance(decoded, values) / draws;
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
        const double mean = sum[i] / draws;
        result.mean.push_back(mean);
        result.deviation_of_mean.push_back(std::sqrt(std::max(0.0, squares[i] / draws - mean * mean) / draws));
    }
    return result;
}

} // namespace lategrad
