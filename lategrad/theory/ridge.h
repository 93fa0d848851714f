/// Ridge regression, a real problem whose answer is known: f(w) = ‖Xw − y‖² + η‖w‖² with its minimiser in closed form.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "lategrad/core/random.h"
#include "lategrad/theory/multi_step.h"

namespace lategrad {

/// Immutable; any number of threads.
class RidgeProblem {
  public:
    /// `x`: m rows of so many columns, one after the other; `y`: m numbers. All rows are divided by the norm of the
    /// longest one where that is above 1: the same regression in other units, with ‖x‖ <= 1.
    /// REQUIRES: x.size() == y.size() · columns > 0; all finite; eta > 0.
    RidgeProblem(std::size_t columns, std::vector<double> x, std::vector<double> y, double eta);
    ~RidgeProblem();
    RidgeProblem(const RidgeProblem&) = delete;
    RidgeProblem& operator=(const RidgeProblem&) = delete;

    std::size_t rows() const;
    std::size_t columns() const;
    double eta() const;
    /// What the rows were divided by; 1 where they were short enough.
    double norm_divisor() const;

    /// [2η, 2m + 2η], without looking at the data: 2XᵀX has eigenvalues from 0 to its trace, 2·Σ‖x‖² <= 2m. A
    /// minibatch's gradient (below) has its curvature there too.
    Curvature curvature_bounds() const;
    /// Of the Hessian 2XᵀX + 2ηI, ascending, and its unit eigenvector number i.
    std::span<const double> eigenvalues() const;
    std::span<const double> eigenvector(std::size_t i) const;
    /// w* = (XᵀX + ηI)⁻¹Xᵀy.
    std::span<const double> minimiser() const;

    /// 2Xᵀ(Xw − y) + 2ηw.
    void gradient(std::span<const double> w, std::span<double> out) const;
    /// The same from `batch` rows drawn with replacement, their sum scaled by m/batch: its mean is the gradient.
    void stochastic_gradient(std::span<const double> w, std::size_t batch, RandomStream& random,
                             std::span<double> out) const;

  private:
    struct Parts;
    std::unique_ptr<const Parts> parts_;
};

/// Features and a hidden w uniform in [−1, 1), y = Xw plus noise uniform in [−1/2, 1/2).
std::unique_ptr<RidgeProblem> make_random_ridge(std::size_t rows, std::size_t columns, double eta, std::uint64_t seed);

struct ConvergenceOptions {
    StepSizes steps;
    std::uint64_t iterations = 1000;
    std::size_t batch = 16; ///< rows of a minibatch
    std::size_t runs = 32;  ///< of the stochastic method, independent; at least 2
    std::uint64_t seed = 1;
};

/// Distances to w* after t updates from w_0 = 0. Infinity where a number has left a double's range.
struct ConvergencePoint {
    std::uint64_t t = 0;
    std::optional<double> bound; ///< what the condition promises for the second and, in expectation, for the third
    double deterministic = 0;    ///< ‖w_t − w*‖
    double mean = 0; ///< ‖E w_t − w*‖, E the mean over the stochastic runs: what the theorem speaks about
    double standard_error = 0; ///< of that mean: what is left of it by chance where E w_t = w*
    double of_one_run = 0;     ///< E ‖w_t − w*‖: a single run keeps the noise of its gradients
};

/// Runs the multi-step method with gradients and with minibatches; at t = 0, 1, 2, 5, 10, … and the last one.
std::vector<ConvergencePoint> run_to_minimiser(const RidgeProblem& problem, const ConvergenceOptions& options);

} // namespace lategrad
