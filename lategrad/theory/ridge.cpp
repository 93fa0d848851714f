#include "lategrad/theory/ridge.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Eigen::Map<const Eigen::VectorXd> view(std::span<const double> values) {
    return {values.data(), static_cast<Eigen::Index>(values.size())};
}

Eigen::Map<Eigen::VectorXd> view(std::span<double> values) {
    return {values.data(), static_cast<Eigen::Index>(values.size())};
}

std::span<const double> span_of(const Eigen::VectorXd& values) {
    return {values.data(), static_cast<std::size_t>(values.size())};
}

double finite_or_infinity(double value) {
    return std::isfinite(value) ? value : std::numeric_limits<double>::infinity();
}

/// 0, 1, 2, 5, 10, 20, 50, … and the last.
std::vector<std::uint64_t> growing_times(std::uint64_t last) {
    std::vector<std::uint64_t> times = {0};
    for (std::uint64_t decade = 1; decade <= last; decade *= 10) {
        for (const std::uint64_t digit : {1, 2, 5}) {
            if (decade * digit <= last) times.push_back(decade * digit);
        }
    }
    if (times.back() != last) times.push_back(last);
    return times;
}

} // namespace

struct RidgeProblem::Parts {
    RowMajor x;
    Eigen::VectorXd y;
    double eta;
    double norm_divisor = 1;
    Eigen::MatrixXd hessian;
    Eigen::VectorXd linear; ///< 2Xᵀy
    Eigen::VectorXd minimiser;
    Eigen::VectorXd eigenvalues;
    Eigen::MatrixXd eigenvectors;
};

RidgeProblem::RidgeProblem(std::size_t columns, std::vector<double> x, std::vector<double> y, double eta) {
    CHECK(columns > 0 && !y.empty() && x.size() == y.size() * columns && eta > 0);
    auto parts = std::make_unique<Parts>();
    const auto m = static_cast<Eigen::Index>(y.size());
    const auto d = static_cast<Eigen::Index>(columns);
    parts->x = Eigen::Map<const RowMajor>(x.data(), m, d);
    parts->y = view(std::span<const double>(y));
    parts->eta = eta;
    parts->norm_divisor = std::max(1.0, parts->x.rowwise().norm().maxCoeff());
    parts->x /= parts->norm_divisor;
    parts->hessian = Eigen::MatrixXd::Identity(d, d) * (2 * eta);
    parts->hessian.selfadjointView<Eigen::Lower>().rankUpdate(parts->x.transpose(), 2);
    parts->hessian.triangularView<Eigen::StrictlyUpper>() = parts->hessian.transpose();
    parts->linear = 2 * (parts->x.transpose() * parts->y);
    parts->minimiser = parts->hessian.llt().solve(parts->linear);
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(parts->hessian);
    parts->eigenvalues = solver.eigenvalues();
    parts->eigenvectors = solver.eigenvectors();
    parts_ = std::move(parts);
}

RidgeProblem::~RidgeProblem() = default;

std::size_t RidgeProblem::rows() const {
    return static_cast<std::size_t>(parts_->x.rows());
}

std::size_t RidgeProblem::columns() const {
    return static_cast<std::size_t>(parts_->x.cols());
}

double RidgeProblem::eta() const {
    return parts_->eta;
}

double RidgeProblem::norm_divisor() const {
    return parts_->norm_divisor;
}

Curvature RidgeProblem::curvature_bounds() const {
    return {.a = 2 * eta(), .b = 2 * static_cast<double>(rows()) + 2 * eta()};
}

std::span<const double> RidgeProblem::eigenvalues() const {
    return span_of(parts_->eigenvalues);
}

std::span<const double> RidgeProblem::eigenvector(std::size_t i) const {
    CHECK(i < columns());
    return {parts_->eigenvectors.data() + i * columns(), columns()}; // column by column in memory
}

std::span<const double> RidgeProblem::minimiser() const {
    return span_of(parts_->minimiser);
}

void RidgeProblem::gradient(std::span<const double> w, std::span<double> out) const {
    view(out).noalias() = parts_->hessian * view(w);
    view(out) -= parts_->linear;
}

void RidgeProblem::stochastic_gradient(std::span<const double> w, std::size_t batch, RandomStream& random,
                                       std::span<double> out) const {
    CHECK(batch > 0);
    auto sum = view(out);
    sum.setZero();
    for (std::size_t i = 0; i < batch; ++i) {
        const auto row = static_cast<Eigen::Index>(random.below(rows()));
        sum += (parts_->x.row(row).dot(view(w)) - parts_->y[row]) * parts_->x.row(row).transpose();
    }
    sum = 2 * static_cast<double>(rows()) / static_cast<double>(batch) * sum + 2 * eta() * view(w);
}

std::unique_ptr<RidgeProblem> make_random_ridge(std::size_t rows, std::size_t columns, double eta, std::uint64_t seed) {
    RandomStream random(seed, Purpose::theory, {0});
    const auto draw = [&] { return 2 * random.uniform() - 1; };
    std::vector<double> hidden(columns), x(rows * columns), y(rows);
    std::ranges::generate(hidden, draw);
    std::ranges::generate(x, draw);
    for (std::size_t row = 0; row < rows; ++row) {
        y[row] = draw() / 2;
        for (std::size_t j = 0; j < columns; ++j) y[row] += x[row * columns + j] * hidden[j];
    }
    return std::make_unique<RidgeProblem>(columns, std::move(x), std::move(y), eta);
}

std::vector<ConvergencePoint> run_to_minimiser(const RidgeProblem& problem, const ConvergenceOptions& options) {
    CHECK(options.runs >= 2);
    const auto minimiser = view(problem.minimiser());
    const std::vector<std::uint64_t> times = growing_times(options.iterations);
    /// Calls `at(point, w_t − w*)` at each of the times.
    const auto run = [&](const GradientFunction& gradient, const auto& at) {
        MultiStepGradient method(std::vector<double>(problem.columns()), options.steps.late.size());
        for (std::size_t i = 0; i < times.size(); ++i) {
            while (method.updates() < times[i]) method.update(options.steps, gradient);
            at(i, Eigen::VectorXd(view(method.parameters()) - minimiser));
        }
    };

    std::vector<ConvergencePoint> points(times.size());
    const Curvature curvature = problem.curvature_bounds();
    const bool certain = check_condition(options.steps, curvature).holds();
    for (std::size_t i = 0; i < times.size(); ++i) {
        points[i].t = times[i];
        if (certain) points[i].bound = minimiser.norm() * distance_bound(options.steps, curvature, times[i]);
    }
    run([&](auto w, auto out) { problem.gradient(w, out); },
        [&](std::size_t i, const Eigen::VectorXd& error) {
            points[i].deterministic = finite_or_infinity(error.norm());
        });

    // Means and squared deviations from them, run by run (Welford 1962): a difference of sums would cancel.
    std::vector<Eigen::VectorXd> means(times.size(), Eigen::VectorXd::Zero(minimiser.size()));
    std::vector<double> deviations(times.size());
    const auto count = static_cast<double>(options.runs);
    for (std::size_t r = 0; r < options.runs; ++r) {
        RandomStream random(options.seed, Purpose::theory, {1, r});
        run([&](auto w, auto out) { problem.stochastic_gradient(w, options.batch, random, out); },
            [&](std::size_t i, const Eigen::VectorXd& error) {
                const Eigen::VectorXd off = error - means[i];
                means[i] += off / static_cast<double>(r + 1);
                deviations[i] += off.dot(error - means[i]);
                points[i].of_one_run += error.norm() / count;
            });
    }
    for (std::size_t i = 0; i < times.size(); ++i) {
        points[i].mean = finite_or_infinity(means[i].norm());
        points[i].standard_error = finite_or_infinity(std::sqrt(deviations[i] / (count - 1) / count));
        points[i].of_one_run = finite_or_infinity(points[i].of_one_run);
    }
    return points;
}

} // namespace lategrad
