/// The multi-step gradient method, in which an update sums gradients of the last k points,
///
///     w_{t+1} = w_t − Σ_i y_i·∇f(w_{t−i}),   i = 0 … k − 1,
///
/// and the condition under which it converges (docs/theory.md). y_0 is the step of the fresh gradient, y_i that of the
/// gradient that is i updates late.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace lategrad {

/// Bounds on the eigenvalues of the Hessian, wherever it is taken. 0 < a <= b.
struct Curvature {
    double a = 1;
    double b = 1;
};

/// Of one update, in units of 1/curvature.
struct StepSizes {
    double fresh = 0;         ///< α
    std::vector<double> late; ///< late[i − 1]: of the gradient that is i updates late; none is below 0

    double late_sum() const;
};

/// The largest Σ late / fresh at which convergence is certain: a/(2b). REQUIRES: 0 < a <= b.
double certified_late_share(Curvature curvature);

/// The condition c <= α <= 1/b (any c > 0) and Σ late <= a/(2b)·α, and how much of it is used.
struct Condition {
    double fresh_max = 0; ///< 1/b
    double late_sum = 0;
    double late_max = 0; ///< a/(2b)·α
    bool fresh_holds = false;
    bool late_holds = false;

    bool holds() const { return fresh_holds && late_holds; }
    /// What the late steps may still grow by, all together; below 0: what there is too much of them.
    double late_left() const;
};

/// Both bounds are met by steps that equal them up to the rounding of decimals, 1e-12 of their value.
/// REQUIRES: 0 < a <= b.
Condition check_condition(const StepSizes& steps, Curvature curvature);

/// What the condition promises: ‖w_t − w*‖ <= this · ‖w_0 − w*‖ after t updates with these steps or with any others of
/// which α·a − b·Σ late is as large, and which are no staler. It is (1 − α·a + b·Σ late)^⌈t/k⌉.
/// REQUIRES: the condition holds.
double distance_bound(const StepSizes& steps, Curvature curvature, std::uint64_t t);

/// ∇f(w), or an unbiased draw of it, into `gradient`. Both have the problem's dimension.
using GradientFunction = std::function<void(std::span<const double> w, std::span<double> gradient)>;

/// Runs the method. Keeps delay_max + 1 points and nothing else.
class MultiStepGradient {
  public:
    MultiStepGradient(std::vector<double> start, std::size_t delay_max);

    /// One update. Asks for one gradient at each point whose step is not 0, the fresh one first, so that a stochastic
    /// `gradient` is drawn anew for each: it was another worker who computed the late one. Terms from before the start
    /// are left out, as nobody had a gradient then. REQUIRES: steps.late.size() <= delay_max.
    void update(const StepSizes& steps, const GradientFunction& gradient);

    std::span<const double> parameters() const { return points_[updates_ % points_.size()]; }
    std::uint64_t updates() const { return updates_; }

  private:
    std::vector<std::vector<double>> points_; ///< w_t at t mod their number
    std::vector<double> gradient_;
    std::vector<double> next_;
    std::uint64_t updates_ = 0;
};

} // namespace lategrad
