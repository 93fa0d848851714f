#include "lategrad/theory/momentum.h"

#include <algorithm>
#include <cmath>

#include <Eigen/Core>

#include "lategrad/core/error.h"
#include "lategrad/theory/stability.h"

namespace lategrad {
namespace {

/// Least squares of y on (u, v) without a constant.
struct Fit {
    double uu = 0, uv = 0, vv = 0, uy = 0, vy = 0, yy = 0;
    double n = 0;

    void add(double u, double v, double y) {
        uu += u * u;
        uv += u * v;
        vv += v * v;
        uy += u * y;
        vy += v * y;
        yy += y * y;
        n += 1;
    }

    void solve(MomentumFit& out) const {
        const double determinant = uu * vv - uv * uv;
        CHECK(determinant > 0);
        out.measured = (uy * vv - vy * uv) / determinant;
        out.step = (vy * uu - uy * uv) / determinant;
        const double residual = std::max(0.0, yy - out.measured * uy - out.step * vy) / (n - 2);
        out.standard_error = std::sqrt(residual * vv / determinant);
        out.step_standard_error = std::sqrt(residual * uu / determinant);
    }
};

} // namespace

std::vector<MomentumFit> measure_momentum(const RidgeProblem& problem, const MomentumOptions& options) {
    CHECK(options.alpha > 0);
    const StepSizes steps = delayed_steps(options.alpha, options.late_share, options.delay);
    CHECK(problem.eigenvalues().back() < curvature_limit(steps));
    CHECK(options.iterations > options.delay + 2);

    const auto d = static_cast<Eigen::Index>(problem.columns());
    const Eigen::Map<const Eigen::MatrixXd> eigenvectors(problem.eigenvector(0).data(), d, d);
    const Eigen::Map<const Eigen::VectorXd> minimiser(problem.minimiser().data(), d);
    RandomStream random(options.seed, Purpose::theory, {2, options.run});
    const GradientFunction gradient = [&](auto w, auto out) {
        problem.stochastic_gradient(w, options.batch, random, out);
    };
    MultiStepGradient method({problem.minimiser().begin(), problem.minimiser().end()}, options.delay);
    const auto coordinates = [&]() -> Eigen::VectorXd {
        return eigenvectors.transpose() *
               (Eigen::Map<const Eigen::VectorXd>(method.parameters().data(), d) - minimiser);
    };

    std::vector<Fit> fits(problem.columns());
    Eigen::VectorXd before = coordinates(), now = before;
    while (method.updates() < options.iterations) {
        method.update(steps, gradient);
        const Eigen::VectorXd next = coordinates();
        if (method.updates() > options.delay + 1) { // before that, nothing is late yet
            for (Eigen::Index j = 0; j < d; ++j) {
                const auto i = static_cast<std::size_t>(j);
                fits[i].add(now[j] - before[j], -problem.eigenvalues()[i] * now[j], next[j] - now[j]);
            }
        }
        before = now;
        now = next;
    }

    std::vector<MomentumFit> out;
    for (std::size_t i = 0; i < fits.size(); ++i) {
        MomentumFit fit{.curvature = problem.eigenvalues()[i]};
        fit.predicted = equivalent_momentum(options.alpha, fit.curvature, options.late_share);
        fits[i].solve(fit);
        out.push_back(fit);
    }
    return out;
}

} // namespace lategrad
