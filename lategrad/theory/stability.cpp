#include "lategrad/theory/stability.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <numbers>

#include <Eigen/Eigenvalues>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

using Complex = std::complex<double>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Σ_i y_i·z^{−i}, by Horner's scheme.
Complex mass(const StepSizes& steps, Complex z) {
    const Complex back = 1.0 / z;
    Complex sum = 0;
    for (std::size_t i = steps.late.size(); i-- > 0;) sum = (sum + steps.late[i]) * back;
    return sum + steps.fresh;
}

/// The imaginary part of the boundary locus, over sin θ so that its zero at θ = π, where the locus is always real, is
/// none; up to a positive factor.
double off_the_real_axis(const StepSizes& steps, double theta) {
    const Complex z = std::polar(1.0, theta);
    return std::imag((1.0 - z) * std::conj(mass(steps, z))) / std::sin(theta);
}

/// Where the sign changes, to the last bits. REQUIRES: the signs at the ends differ.
double crossing(const StepSizes& steps, double low, double high) {
    const bool sign = off_the_real_axis(steps, low) > 0;
    for (int i = 0; i < 60; ++i) {
        const double middle = (low + high) / 2;
        ((off_the_real_axis(steps, middle) > 0) == sign ? low : high) = middle;
    }
    return (low + high) / 2;
}

StepSizes scaled_late(StepSizes steps, double factor) {
    for (double& step : steps.late) step *= factor;
    return steps;
}

} // namespace

double spectral_radius(const StepSizes& steps, double curvature) {
    std::size_t delay_max = steps.late.size();
    while (delay_max > 0 && steps.late[delay_max - 1] == 0) --delay_max;
    const auto k = static_cast<Eigen::Index>(delay_max + 1);
    Eigen::MatrixXd companion = Eigen::MatrixXd::Zero(k, k);
    companion(0, 0) = 1 - curvature * steps.fresh;
    for (Eigen::Index i = 1; i < k; ++i) {
        companion(0, i) = -curvature * steps.late[static_cast<std::size_t>(i - 1)];
        companion(i, i - 1) = 1;
    }
    if (!companion.allFinite()) return kInfinity;
    const Eigen::EigenSolver<Eigen::MatrixXd> solver(companion, false);
    return solver.info() == Eigen::Success ? solver.eigenvalues().cwiseAbs().maxCoeff() : kInfinity;
}

WorstCurvature worst_spectral_radius(const StepSizes& steps, Curvature curvature) {
    constexpr int kPoints = 128;
    double low = curvature.a, high = curvature.b;
    WorstCurvature worst{.radius = spectral_radius(steps, high), .at = high};
    for (int round = 0; round < 3; ++round) {
        const double spacing = (high - low) / kPoints;
        for (int i = 0; i < kPoints; ++i) {
            const double at = low + spacing * i;
            const double radius = spectral_radius(steps, at);
            if (radius > worst.radius) worst = {.radius = radius, .at = at};
        }
        low = std::max(curvature.a, worst.at - spacing);
        high = std::min(curvature.b, worst.at + spacing);
    }
    return worst;
}

double curvature_limit(const StepSizes& steps) {
    const double largest = std::max(steps.fresh, steps.late.empty() ? 0 : std::ranges::max(steps.late));
    CHECK(largest > 0);
    StepSizes units = scaled_late(steps, 1 / largest); // in which nothing over- or underflows
    units.fresh /= largest;

    double limit = kInfinity;
    const auto meets = [&](double theta) {
        const Complex z = std::polar(1.0, theta);
        const Complex curvature = (1.0 - z) / mass(units, z);
        if (curvature.real() > 0) limit = std::min(limit, curvature.real());
    };
    // At θ = π without rounding: the locus is 2 / Σ_i (−1)^i·y_i.
    double alternating = units.fresh;
    for (std::size_t i = 0; i < units.late.size(); ++i) alternating += (i % 2 == 0 ? -1 : 1) * units.late[i];
    if (alternating > 0) limit = 2 / alternating;
    // The polynomial turns at most k times around the circle.
    const std::size_t points = 64 * (units.late.size() + 2);
    const double last = std::numbers::pi - 1e-5;
    double before = last / static_cast<double>(points);
    for (std::size_t i = 2; i <= points; ++i) {
        const double theta = last * static_cast<double>(i) / static_cast<double>(points);
        if ((off_the_real_axis(units, before) > 0) != (off_the_real_axis(units, theta) > 0))
            meets(crossing(units, before, theta));
        before = theta;
    }
    return limit / largest;
}

std::optional<double> late_scale_limit(const StepSizes& steps, double b) {
    const double late_sum = steps.late_sum();
    if (late_sum == 0) return steps.fresh * b < 2 ? std::optional(kInfinity) : std::nullopt;
    const auto converges = [&](double factor) { return curvature_limit(scaled_late(steps, factor)) > b; };
    const auto bisect = [&](double stable, double unstable) {
        for (int i = 0; i < 60; ++i) {
            const double middle = (stable + unstable) / 2;
            (converges(middle) ? stable : unstable) = middle;
        }
        return stable;
    };
    // In ratios of 2^(1/16): fine enough for a range of stable factors not to be stepped over.
    const double ratio = std::exp2(1.0 / 16);
    // Late steps as small as that move no root that counts.
    const double least = 1e-9 / (b * late_sum);
    if (converges(1)) {
        double factor = std::max(1.0, least);
        while (converges(factor * ratio)) factor *= ratio; // ends, at `most` at the latest
        return bisect(factor, factor * ratio);
    }
    // With every root inside the unit circle the polynomial's value at 1, b·Σ_i y_i, is at most 2^k.
    const double most = std::exp2(static_cast<double>(steps.late.size() + 1)) / (b * late_sum);
    for (double factor = std::min(1.0, most); factor > least; factor /= ratio) {
        if (converges(factor / ratio)) return bisect(factor / ratio, factor);
    }
    return steps.fresh * b < 2 ? std::optional(0.0) : std::nullopt;
}

StepSizes delayed_steps(double alpha, double late_share, std::size_t delay) {
    CHECK(0 <= late_share && late_share <= 1 && delay >= 1);
    StepSizes steps{.fresh = alpha * (1 - late_share), .late = std::vector<double>(delay, 0.0)};
    steps.late.back() = alpha * late_share;
    return steps;
}

double stable_step(double late_share, std::size_t delay) {
    return curvature_limit(delayed_steps(1, late_share, delay));
}

double equivalent_momentum(double alpha, double curvature, double late_share) {
    return alpha * curvature * late_share;
}

} // namespace lategrad
