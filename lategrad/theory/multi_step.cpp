#include "lategrad/theory/multi_step.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

constexpr double kRounding = 1e-12;

bool at_most(double value, double bound) {
    return value <= bound * (1 + kRounding);
}

} // namespace

double StepSizes::late_sum() const {
    return std::accumulate(late.begin(), late.end(), 0.0);
}

double Condition::late_left() const {
    const double left = late_max - late_sum;
    return std::abs(left) <= kRounding * late_max ? 0 : left;
}

double certified_late_share(Curvature curvature) {
    CHECK(0 < curvature.a && curvature.a <= curvature.b);
    return curvature.a / curvature.b / 2; // 2b may be beyond a double
}

Condition check_condition(const StepSizes& steps, Curvature curvature) {
    Condition condition{.fresh_max = 1 / curvature.b,
                        .late_sum = steps.late_sum(),
                        .late_max = certified_late_share(curvature) * steps.fresh};
    condition.fresh_holds = steps.fresh > 0 && at_most(steps.fresh, condition.fresh_max);
    condition.late_holds = at_most(condition.late_sum, condition.late_max);
    return condition;
}

double distance_bound(const StepSizes& steps, Curvature curvature, std::uint64_t t) {
    CHECK(check_condition(steps, curvature).holds());
    const double factor = 1 - steps.fresh * curvature.a + curvature.b * steps.late_sum();
    const std::uint64_t k = 1 + steps.late.size();
    return std::pow(factor, static_cast<double>((t + k - 1) / k));
}

MultiStepGradient::MultiStepGradient(std::vector<double> start, std::size_t delay_max)
    : points_(delay_max + 1, start),
      gradient_(start.size()),
      next_(std::move(start)) {}

void MultiStepGradient::update(const StepSizes& steps, const GradientFunction& gradient) {
    CHECK(steps.late.size() < points_.size());
    const auto add = [&](double step, std::uint64_t delay) {
        if (step == 0 || delay > updates_) return;
        gradient(points_[(updates_ - delay) % points_.size()], gradient_);
        for (std::size_t j = 0; j < next_.size(); ++j) next_[j] -= step * gradient_[j];
    };
    std::ranges::copy(parameters(), next_.begin());
    add(steps.fresh, 0);
    for (std::size_t i = 0; i < steps.late.size(); ++i) add(steps.late[i], i + 1);
    ++updates_;
    std::ranges::copy(next_, points_[updates_ % points_.size()].begin());
}

} // namespace lategrad
