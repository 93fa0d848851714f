/// lategrad theory ridge: the method on a problem with a known answer.
#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "cli/theory/options.h"
#include "lategrad/core/error.h"
#include "lategrad/telemetry/table.h"
#include "lategrad/theory/multi_step.h"
#include "lategrad/theory/ridge.h"

namespace lategrad::theory_command {
namespace {

constexpr std::size_t kDefaultRows = 200;
constexpr std::size_t kDefaultColumns = 20;
constexpr std::uint64_t kDefaultIterations = 20'000;
constexpr double kConverged = 1e-6; // of the distance at the start

struct RidgeOptions {
    ProblemOptions problem;
    std::optional<double> alpha;
    std::optional<std::string> late;
    std::optional<std::uint64_t> iterations;
    std::optional<std::size_t> batch;
    std::size_t runs = 32;
    bool json = false;
};

/// Enough for the bound to promise convergence, where that is within reason.
std::uint64_t default_iterations(const StepSizes& steps, Curvature curvature) {
    if (!check_condition(steps, curvature).holds()) return kDefaultIterations;
    const double per_window = -std::log(distance_bound(steps, curvature, 1));
    const double updates = std::ceil(-std::log(kConverged) / per_window) * static_cast<double>(1 + steps.late.size());
    if (updates >= static_cast<double>(kDefaultIterations)) return kDefaultIterations; // per_window may even be 0
    return static_cast<std::uint64_t>(std::max(1.0, updates));
}

int ridge(const RidgeOptions& options) {
    if (!options.problem.data.empty() && (options.problem.rows || options.problem.columns))
        throw InputError("--data: has rows and columns of its own; leave out --rows and --cols");
    const auto problem = ridge_problem(options.problem, options.problem.rows.value_or(kDefaultRows),
                                       options.problem.columns.value_or(kDefaultColumns));
    const Curvature curvature = problem->curvature_bounds();
    ConvergenceOptions run{.runs = options.runs, .seed = options.problem.seed};
    run.steps.fresh = options.alpha.value_or(1 / curvature.b);
    run.steps.late =
        options.late ? parse_late(*options.late) : std::vector{certified_late_share(curvature) * run.steps.fresh};
    run.batch = options.batch.value_or(std::min<std::size_t>(16, problem->rows()));
    require_rows(*problem, run.batch);
    run.iterations = options.iterations.value_or(default_iterations(run.steps, curvature));

    const double least = problem->eigenvalues().front(), largest = problem->eigenvalues().back();
    const double rounding = 1e-9 * curvature.b;
    const bool within = curvature.a - rounding <= least && largest <= curvature.b + rounding;
    const bool certain = check_condition(run.steps, curvature).holds();
    const auto points = run_to_minimiser(*problem, run);
    const ConvergencePoint& last = points.back();
    const double start = points.front().deterministic;
    const bool converged = last.deterministic <= kConverged * start;
    // By chance alone a mean is four of its standard errors off once in thousands of times, or less often.
    const bool in_expectation = std::isfinite(last.standard_error) && last.standard_error <= start / 20 &&
                                last.mean <= kConverged * start + 4 * last.standard_error;
    const int status = within && converged && in_expectation ? 0 : 1;
    if (options.json) {
        Json rows = Json::array();
        for (const ConvergencePoint& point : points) {
            rows.push_back({{"t", point.t},
                            {"bound", point.bound ? Json(*point.bound) : Json()},
                            {"deterministic", point.deterministic},
                            {"mean", point.mean},
                            {"standard_error", point.standard_error},
                            {"of_one_run", point.of_one_run}});
        }
        print({{"rows", problem->rows()},
               {"columns", problem->columns()},
               {"eta", problem->eta()},
               {"norm_divisor", problem->norm_divisor()},
               {"a", curvature.a},
               {"b", curvature.b},
               {"eigenvalue_min", least},
               {"eigenvalue_max", largest},
               {"eigenvalues_within", within},
               {"alpha", run.steps.fresh},
               {"late", run.steps.late},
               {"condition_holds", certain},
               {"batch", run.batch},
               {"runs", run.runs},
               {"seed", run.seed},
               {"distances", std::move(rows)},
               {"converged", converged},
               {"converged_in_expectation", in_expectation}});
        return status;
    }
    fmt::print("ridge regression, {} rows × {} columns, eta {:g}{}\n", problem->rows(), problem->columns(),
               problem->eta(),
               problem->norm_divisor() > 1 ? fmt::format("; rows divided by {:.6g}", problem->norm_divisor()) : "");
    fmt::print("eigenvalues of the Hessian {:.6g} to {:.6g}: {} [2 eta, 2m + 2 eta] = [{:g}, {:g}]\n", least, largest,
               within ? "within" : "NOT within", curvature.a, curvature.b);
    fmt::print("alpha {:.6g}, sum of late {:.6g}: the condition {}\n\n", run.steps.fresh, run.steps.late_sum(),
               certain ? "holds" : "does not hold");
    Table table({{"t"}, {"bound"}, {"gradients"}, {"mean of runs"}, {"its standard error"}, {"a run"}});
    const auto cell = [](double value) { return std::isinf(value) ? "overflow" : fmt::format("{:.3g}", value); };
    for (const ConvergencePoint& point : points) {
        table.add_row({fmt::format("{}", point.t), point.bound ? cell(*point.bound) : "-", cell(point.deterministic),
                       cell(point.mean), cell(point.standard_error), cell(point.of_one_run)});
    }
    fmt::print("distance to the minimiser w*, with gradients and with minibatches of {} rows in {} runs\n{}\n",
               run.batch, run.runs, table.text());
    fmt::print("with gradients    {}\n",
               converged ? "converged: below 1e-6 of the distance at the start"
                         : "not converged to 1e-6 of the distance at the start; more --iterations help if it fell");
    fmt::print("with minibatches  {}\n",
               in_expectation ? "converged in expectation: what their mean is off is within its standard error times 4"
                              : "not converged in expectation; more --iterations help if it fell, more --runs if the "
                                "standard error is large");
    return status;
}

} // namespace

void add_ridge(CLI::App& theory, Command& chosen) {
    auto options = std::make_shared<RidgeOptions>();
    CLI::App* command = theory.add_subcommand(
        "ridge", "Run the method on ridge regression, whose minimiser is known (0: it converged, 1: not)");
    command->add_option("--data", options->problem.data, "ARRAYS.safetensors with x [N, ...] and y [N] of floats")
        ->type_name("FILE");
    add_problem_options(*command, options->problem, kDefaultRows, kDefaultColumns);
    command->add_option("--alpha", options->alpha, "step of the fresh gradient; default 1/b = 1/(2m + 2 eta)")
        ->check(above_zero());
    add_late_option(*command, options->late, "; default the most that the condition allows, one update late");
    command
        ->add_option("--iterations", options->iterations,
                     fmt::format("updates; default as many as the condition asks for, {} at most", kDefaultIterations))
        ->type_name("T")
        ->check(count(1, kIterationsMax));
    command->add_option("--batch", options->batch, "rows of a minibatch; default 16")
        ->type_name("ROWS")
        ->check(count(1, kElementsMax));
    command->add_option("--runs", options->runs, "independent runs with minibatches")
        ->type_name("N")
        ->capture_default_str()
        ->check(count(2, 100'000));
    command->add_flag("--json", options->json, "as JSON");
    command->footer("Examples:\n"
                    "  lategrad theory ridge --rows 200 --cols 20 --eta 1\n"
                    "  lategrad theory ridge --data arrays.safetensors --eta 10 --late 0.0001,0.0001\n");
    command->callback([options, &chosen] { chosen = [options] { return ridge(*options); }; });
}

} // namespace lategrad::theory_command
