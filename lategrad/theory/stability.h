/// How far a delayed iteration is from its true limit: along an eigenvector of the Hessian with eigenvalue λ, the
/// multi-step method with constant steps is the linear recurrence
///
///     w_{t+1} = w_t − λ·(y_0·w_t + Σ_i y_i·w_{t−i}),
///
/// which converges if and only if every root of its characteristic polynomial is inside the unit circle.
#pragma once

#include <cstddef>
#include <optional>

#include "lategrad/theory/multi_step.h"

namespace lategrad {

/// The largest absolute value of a root of z^{k} = (1 − λ·y_0)·z^{k−1} − λ·Σ_i y_i·z^{k−1−i}: the factor by which the
/// distance to the minimiser grows or falls per update in the end. From the eigenvalues of the companion matrix, of k
/// rows: O(k³). Infinity where the coefficients are beyond a double.
double spectral_radius(const StepSizes& steps, double curvature);

struct WorstCurvature {
    double radius = 0;
    double at = 0; ///< the curvature
};

/// The largest spectral radius over [a, b]; on a grid that closes in on the largest value found.
WorstCurvature worst_spectral_radius(const StepSizes& steps, Curvature curvature);

/// The smallest λ > 0 at which a root meets the unit circle: the iteration converges for every curvature in (0, λ), and
/// not at λ. Found on the boundary locus λ(θ) = (1 − z) / Σ_i y_i·z^{−i}, z = e^{iθ}, where it is real and positive.
/// REQUIRES: a step above 0.
double curvature_limit(const StepSizes& steps);

/// The largest factor on the late steps with which the iteration converges for every curvature in (0, b]: where it
/// converges now, the first larger one at which it no longer does; else the largest smaller one at which it would.
/// Nothing where no factor helps; infinity where no step is late.
std::optional<double> late_scale_limit(const StepSizes& steps, double b);

/// With the share p of every update's gradient mass exactly `delay` updates late: steps α(1 − p) and αp.
/// REQUIRES: 0 <= p <= 1; delay >= 1.
StepSizes delayed_steps(double alpha, double late_share, std::size_t delay);

/// The largest stable s = α·λ of w_{t+1} = w_t − s·((1 − p)·w_t + p·w_{t−delay}). With one update of delay
/// min(1/p, 2/(1 − 2p)) for p < 1/2, 1/p beyond.
double stable_step(double late_share, std::size_t delay);

/// Of the heavy ball w_{t+1} = w_t − α·∇f(w_t) + μ·(w_t − w_{t−1}) (Polyak 1964) that the iteration is, along an
/// eigenvalue λ, where the share p is exactly one update late: μ = α·λ·p.
double equivalent_momentum(double alpha, double curvature, double late_share);

} // namespace lategrad
