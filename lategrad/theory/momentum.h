/// Measures the momentum that late gradients amount to (Mitliagkas et al. 2016, "Asynchrony begets momentum").
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "lategrad/theory/ridge.h"

namespace lategrad {

struct MomentumOptions {
    double late_share = 0; ///< p, of every update's gradient mass
    std::size_t delay = 1; ///< updates by which it is late
    double alpha = 0;      ///< total step of an update: α(1 − p) fresh and αp late
    std::size_t batch = 8; ///< rows of a minibatch: where the noise comes from
    std::uint64_t iterations = 100'000;
    std::uint64_t seed = 1;
    std::uint64_t run = 0; ///< runs of one seed are independent
};

/// Along one eigenvector of the Hessian.
struct MomentumFit {
    double curvature = 0; ///< its eigenvalue λ
    double predicted = 0; ///< α·p·λ: exact where the share is one update late
    double measured = 0;  ///< μ of the least squares fit
    double standard_error = 0;
    double step = 0; ///< its α
    double step_standard_error = 0;
};

/// Runs the iteration with minibatches from w* on and fits w_{t+1} − w_t = μ·(w_t − w_{t−1}) − α·λ·(w_t − w*) by least
/// squares to what it did along each eigenvector, in ascending order of eigenvalues. The noise of a gradient is drawn
/// when it is applied, so that it has nothing to do with where w came from and the fit is without bias in the limit.
/// REQUIRES: alpha > 0; the iteration is stable (curvature_limit); more rows than columns, so
/// that there is noise along every eigenvector.
std::vector<MomentumFit> measure_momentum(const RidgeProblem& problem, const MomentumOptions& options);

} // namespace lategrad
