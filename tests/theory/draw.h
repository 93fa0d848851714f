/// Random numbers and distances that the tests of lategrad/theory share.
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "lategrad/core/random.h"
#include "lategrad/theory/multi_step.h"

namespace lategrad {

inline double between(RandomStream& random, double low, double high) {
    return low + (high - low) * random.uniform();
}

inline double norm(std::span<const double> w) {
    double sum = 0;
    for (const double value : w) sum += value * value;
    return std::sqrt(sum);
}

/// So many numbers, 0 or more, of this sum.
inline std::vector<double> parts_of(RandomStream& random, double sum, std::size_t count) {
    std::vector<double> parts(count);
    double total = 0;
    for (double& part : parts) total += part = random.exponential(1);
    for (double& part : parts) part *= sum / total;
    return parts;
}

inline StepSizes one_late(double fresh, double late, std::size_t delay) {
    StepSizes steps{.fresh = fresh, .late = std::vector<double>(delay)};
    steps.late.back() = late;
    return steps;
}

} // namespace lategrad
