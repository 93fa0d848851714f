/// lategrad theory: the condition under which late gradients converge, and what lies beyond it.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string_view>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/figure.h"
#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"
#include "lategrad/data/arrays.h"
#include "lategrad/telemetry/table.h"
#include "lategrad/theory/momentum.h"
#include "lategrad/theory/multi_step.h"
#include "lategrad/theory/ridge.h"
#include "lategrad/theory/stability.h"

namespace lategrad {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kDelayMax = 64;             // a polynomial of that degree still has its roots found in no time
constexpr std::size_t kColumnsMax = 2000;         // a dense Hessian and its eigenvectors
constexpr std::size_t kElementsMax = 50'000'000;  // of X, in doubles
constexpr std::uint64_t kIterationsMax = 1 << 30; // days
constexpr std::uint64_t kDefaultIterations = 20'000;
constexpr double kConverged = 1e-6;    // of the distance at the start
constexpr double kConditionMax = 1e12; // beyond it the closed form is lost to rounding

/// What `--json` prints; infinity, which JSON does not have, as null.
void print(const Json& json) {
    fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
}

CLI::Validator number(const char* expected, bool (*good)(double)) {
    return {[=](const std::string& text) {
                const auto value = parse_number<double>(text);
                return value && good(*value) ? "" : fmt::format("{}: expected {}", text, expected);
            },
            ""};
}

CLI::Validator above_zero() {
    return number("a number above 0", [](double value) { return value > 0; });
}

CLI::Validator count(std::uint64_t least, std::uint64_t most) {
    return {[=](const std::string& text) {
                const auto value = parse_number<std::uint64_t>(text);
                return value && least <= *value && *value <= most
                           ? ""
                           : fmt::format("{}: expected a whole number, {} to {}", text, least, most);
            },
            ""};
}

/// Steps of the gradients that are 1, 2, … updates late. Not CLI11's lists, which leave out what is empty: a delay of
/// its own here.
std::vector<double> parse_late(const std::string& text) {
    std::vector<double> late;
    for (const std::string_view field : split(text, ',')) {
        const auto step = parse_number<double>(field);
        if (!step || *step < 0 || late.size() == kDelayMax) {
            throw InputError(fmt::format("--late {}: expected numbers, 0 or more, as 0.02,0,0.01; {} of them at most",
                                         text, kDelayMax));
        }
        late.push_back(*step);
    }
    return late;
}

// check ---------------------------------------------------------------------------------------------------------------

struct CheckOptions {
    Curvature curvature;
    double alpha = 0;
    std::optional<std::string> late;
    bool json = false;
};

/// At the limit itself, neither the radius nor the limit can be trusted to the last bit.
const char* verdict(double radius, double limit, double b) {
    constexpr double kRounding = 1e-9;
    if (limit > b * (1 + kRounding)) return "converges";
    if (limit > b * (1 - kRounding)) return "at its limit";
    return radius < 1 ? "converges" : "does not converge";
}

int check(const CheckOptions& options) {
    const Curvature& curvature = options.curvature;
    const StepSizes steps{.fresh = options.alpha,
                          .late = options.late ? parse_late(*options.late) : std::vector<double>()};
    if (curvature.a > curvature.b) {
        throw InputError(
            fmt::format("--a {}: is above --b {}; a is the least curvature, b the largest", curvature.a, curvature.b));
    }
    const Condition condition = check_condition(steps, curvature);
    const WorstCurvature worst = worst_spectral_radius(steps, curvature);
    const double limit = curvature_limit(steps);
    const auto scale = late_scale_limit(steps, curvature.b);
    if (options.json) {
        print({{"a", curvature.a},
               {"b", curvature.b},
               {"alpha", steps.fresh},
               {"late", steps.late},
               {"holds", condition.holds()},
               {"alpha_max", condition.fresh_max},
               {"late_sum", condition.late_sum},
               {"late_max", condition.late_max},
               {"late_left", condition.late_left()},
               {"spectral_radius", worst.radius},
               {"spectral_radius_at", worst.at},
               {"curvature_limit", limit},
               {"late_scale_limit", scale ? Json(*scale) : Json()}});
        return condition.holds() ? 0 : 1;
    }
    Table table({{"condition", Align::left}, {"given"}, {"at most"}, {"left"}, {""}});
    const auto add = [&](const char* what, double given, double most, std::string left, bool holds) {
        table.add_row({what, fmt::format("{:.6g}", given), fmt::format("{:.6g}", most), std::move(left),
                       holds ? "holds" : "does not hold"});
    };
    add("alpha <= 1/b", steps.fresh, condition.fresh_max, "", condition.fresh_holds);
    add("sum of late <= a/(2b) alpha", condition.late_sum, condition.late_max,
        fmt::format("{:.6g}", condition.late_left()), condition.late_holds);
    fmt::print("{}\n", table.text());
    if (condition.holds()) {
        fmt::print("Certain to converge for every curvature in [{:g}, {:g}], even where it changes on the way.\n\n",
                   curvature.a, curvature.b);
    } else {
        fmt::print("Not certain to converge for every curvature in [{:g}, {:g}]: the condition is sufficient, not "
                   "necessary.\n\n",
                   curvature.a, curvature.b);
    }
    fmt::print("The true limit, with these steps at every update and a curvature that stays:\n"
               "  largest spectral radius {:.9g}, at curvature {:.6g}: {}\n"
               "  converges for every curvature below {:.6g}\n",
               worst.radius, worst.at, verdict(worst.radius, limit, curvature.b), limit);
    if (!scale) {
        fmt::print("  no factor on the late steps makes it converge up to b\n");
    } else if (std::isfinite(*scale)) {
        fmt::print("  converges up to b with late steps multiplied by less than {:.6g}\n", *scale);
    }
    return condition.holds() ? 0 : 1;
}

void add_eta(CLI::App& command, double& eta) {
    command.add_option("--eta", eta, "of eta·|w|^2")
        ->capture_default_str()
        ->check(number("a number above 0, 1e12 at most", [](double value) { return value > 0 && value <= 1e12; }));
}

void add_check(CLI::App& theory, Command& chosen) {
    auto options = std::make_shared<CheckOptions>();
    CLI::App* command = theory.add_subcommand(
        "check", "Whether steps satisfy the condition, and how far they are from the true limit (0: they do, 1: not)");
    command->add_option("--a", options->curvature.a, "least eigenvalue of the Hessian")
        ->required()
        ->check(above_zero());
    command->add_option("--b", options->curvature.b, "largest eigenvalue of the Hessian")
        ->required()
        ->check(above_zero());
    command->add_option("--alpha", options->alpha, "step of the fresh gradient")->required()->check(above_zero());
    command
        ->add_option("--late", options->late,
                     "steps of the gradients that are 1, 2, ... updates late, in the unit of alpha; default none")
        ->type_name("Y1,Y2,...");
    command->add_flag("--json", options->json, "as JSON");
    command->footer("Example:\n  lategrad theory check --a 1 --b 10 --alpha 0.1 --late 0.003,0.002\n");
    command->callback([options, &chosen] { chosen = [options] { return check(*options); }; });
}

// ridge ---------------------------------------------------------------------------------------------------------------

struct ProblemOptions {
    std::string data;
    std::optional<std::size_t> rows;
    std::optional<std::size_t> columns;
    double eta = 1;
    std::uint64_t seed = 1;
};

struct RidgeOptions {
    ProblemOptions problem;
    std::optional<double> alpha;
    std::optional<std::string> late;
    std::optional<std::uint64_t> iterations;
    std::optional<std::size_t> batch;
    std::size_t runs = 32;
    bool json = false;
};

void check_size(std::size_t rows, std::size_t columns, const std::string& where) {
    if (columns > kColumnsMax || rows > kElementsMax / columns) {
        throw InputError(
            fmt::format("{}: {} × {} is too large for dense algebra here; up to {} columns and {} elements", where,
                        rows, columns, kColumnsMax, kElementsMax));
    }
}

std::unique_ptr<RidgeProblem> ridge_problem(const ProblemOptions& options, std::size_t rows, std::size_t columns) {
    const auto check_eta = [&] {
        const double least = static_cast<double>(rows) / kConditionMax;
        if (options.eta < least) {
            throw InputError(
                fmt::format("--eta {}: with {} rows the closed form would be lost to rounding; from {:.1e} on",
                            options.eta, rows, least));
        }
    };
    if (options.data.empty()) {
        check_size(rows, columns, "--rows, --cols");
        check_eta();
        return make_random_ridge(rows, columns, options.eta, options.seed);
    }
    const SafetensorsFile file(options.data);
    Rows read = read_rows(file, "x", "y");
    if (read.classification) {
        throw InputError(
            fmt::format("{}: tensor y holds integers, which are classes; ridge regression needs floats", options.data));
    }
    rows = read.size();
    columns = read.features.size() / rows;
    check_size(rows, columns, options.data);
    check_eta();
    return std::make_unique<RidgeProblem>(columns, std::vector<double>(read.features.begin(), read.features.end()),
                                          std::vector<double>(read.targets.begin(), read.targets.end()), options.eta);
}

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
    const auto problem =
        ridge_problem(options.problem, options.problem.rows.value_or(200), options.problem.columns.value_or(20));
    const Curvature curvature = problem->curvature_bounds();
    ConvergenceOptions run{.runs = options.runs, .seed = options.problem.seed};
    run.steps.fresh = options.alpha.value_or(1 / curvature.b);
    run.steps.late =
        options.late ? parse_late(*options.late) : std::vector{certified_late_share(curvature) * run.steps.fresh};
    run.batch = options.batch.value_or(std::min<std::size_t>(16, problem->rows()));
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
    const bool in_expectation = std::isfinite(last.standard_error) && last.standard_error <= start / 2 &&
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

void add_ridge(CLI::App& theory, Command& chosen) {
    auto options = std::make_shared<RidgeOptions>();
    CLI::App* command = theory.add_subcommand(
        "ridge", "Run the method on ridge regression, whose minimiser is known (0: it converged, 1: not)");
    command->add_option("--data", options->problem.data, "ARRAYS.safetensors with x [N, ...] and y [N] of floats")
        ->type_name("FILE");
    command->add_option("--rows", options->problem.rows, "of a random problem; default 200")
        ->type_name("M")
        ->check(count(1, kElementsMax));
    command->add_option("--cols", options->problem.columns, "of a random problem; default 20")
        ->type_name("D")
        ->check(count(1, kColumnsMax));
    add_eta(*command, options->problem.eta);
    command->add_option("--alpha", options->alpha, "step of the fresh gradient; default 1/b = 1/(2m + 2 eta)")
        ->check(above_zero());
    command
        ->add_option("--late", options->late,
                     "steps of the gradients that are 1, 2, ... updates late; default the most that the condition "
                     "allows, one update late")
        ->type_name("Y1,Y2,...");
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
    command->add_option("--seed", options->problem.seed, "of the random problem and the minibatches")
        ->type_name("N")
        ->capture_default_str()
        ->check(count(0, std::numeric_limits<std::int64_t>::max()));
    command->add_flag("--json", options->json, "as JSON");
    command->footer("Examples:\n"
                    "  lategrad theory ridge --rows 200 --cols 20 --eta 1\n"
                    "  lategrad theory ridge --data arrays.safetensors --eta 10 --late 0.0001,0.0001\n");
    command->callback([options, &chosen] { chosen = [options] { return ridge(*options); }; });
}

// stability -----------------------------------------------------------------------------------------------------------

/// `points` shares from FIRST to LAST of FIRST:LAST, or the one of a plain number.
std::vector<double> parse_shares(const std::string& text, std::size_t points) {
    const std::size_t colon = text.find(':');
    const auto first = parse_number<double>(std::string_view(text).substr(0, colon));
    const auto last =
        colon == std::string::npos ? first : parse_number<double>(std::string_view(text).substr(colon + 1));
    if (!first || !last || *first < 0 || *first > *last || *last > 1)
        throw InputError(fmt::format("--late-share {}: expected a share or FIRST:LAST, from 0 to 1, as 0:0.5", text));
    if (*first == *last) return {*first};
    std::vector<double> shares;
    for (std::size_t i = 0; i < points; ++i) {
        const double part = static_cast<double>(i) / static_cast<double>(points - 1);
        shares.push_back(*first * (1 - part) + *last * part);
    }
    return shares;
}

/// FIRST..LAST, or one number.
std::vector<std::size_t> parse_delays(const std::string& text) {
    const std::size_t dots = text.find("..");
    const auto first = parse_number<std::size_t>(std::string_view(text).substr(0, dots));
    const auto last =
        dots == std::string::npos ? first : parse_number<std::size_t>(std::string_view(text).substr(dots + 2));
    if (!first || !last || *first < 1 || *first > *last || *last > kDelayMax) {
        throw InputError(fmt::format("--delay {}: expected a number of updates or FIRST..LAST, from 1 to {}, as 1..4",
                                     text, kDelayMax));
    }
    std::vector<std::size_t> delays;
    for (std::size_t delay = *first; delay <= *last; ++delay) delays.push_back(delay);
    return delays;
}

struct StabilityOptions {
    std::string late_share = "0:0.5";
    std::string delay = "1..4";
    std::size_t points = 11;
    std::string figure;
    bool json = false;
};

int stability(const StabilityOptions& options) {
    const auto shares = parse_shares(options.late_share, options.points);
    const auto delays = parse_delays(options.delay);
    if (!options.figure.empty()) check_figure_path(options.figure);
    Figure figure{.x_label = "late share p", .y_label = "largest stable alpha·lambda", .curves = {}};
    std::vector<Column> columns = {{"late share"}};
    for (const std::size_t delay : delays) {
        figure.curves.push_back({.title = fmt::format("{} update{} late", delay, delay == 1 ? "" : "s"),
                                 .points = {},
                                 .colour = static_cast<int>(figure.curves.size()) + 1});
        columns.push_back({fmt::format("{} late", delay)});
        if (delay == 1) columns.push_back({"momentum"});
    }
    Table table(columns);
    Json rows = Json::array();
    for (const double share : shares) {
        std::vector<std::string> row = {fmt::format("{:.4g}", share)};
        for (std::size_t i = 0; i < delays.size(); ++i) {
            const double limit = stable_step(share, delays[i]);
            const double momentum = equivalent_momentum(limit, 1, share);
            figure.curves[i].points.push_back({.x = share, .y = limit});
            row.push_back(fmt::format("{:.4f}", limit));
            if (delays[i] == 1) row.push_back(fmt::format("{:.4f}", momentum));
            rows.push_back({{"late_share", share},
                            {"delay", delays[i]},
                            {"stable_step", limit},
                            {"momentum", delays[i] == 1 ? Json(momentum) : Json()}});
        }
        table.add_row(std::move(row));
    }
    if (!options.figure.empty()) draw_figure(figure, options.figure);
    if (options.json) {
        print(rows);
    } else {
        fmt::print("largest stable alpha·lambda where a share of the gradient mass is so many updates late\n{}",
                   table.text());
        if (delays.front() == 1) {
            fmt::print("\nmomentum: alpha·lambda·share, of the heavy ball that one update of delay is, at its limit\n");
        }
    }
    return 0;
}

void add_figure_options(CLI::App& command, std::string& late_share, std::size_t& points, std::string& figure,
                        bool& json) {
    command.add_option("--late-share", late_share, "share of the gradient mass that is late, or FIRST:LAST")
        ->type_name("P")
        ->capture_default_str();
    command.add_option("--points", points, "shares from FIRST to LAST")
        ->type_name("N")
        ->capture_default_str()
        ->check(count(2, 1000));
    command.add_option("--figure", figure, "draw it, with gnuplot")->type_name("FILE.svg");
    command.add_flag("--json", json, "an array of rows, as JSON");
}

void add_stability(CLI::App& theory, Command& chosen) {
    auto options = std::make_shared<StabilityOptions>();
    CLI::App* command =
        theory.add_subcommand("stability", "The largest stable step over the share and the delay of late gradients");
    add_figure_options(*command, options->late_share, options->points, options->figure, options->json);
    command->add_option("--delay", options->delay, "updates by which it is late, or FIRST..LAST")
        ->type_name("D")
        ->capture_default_str();
    command->footer("Example:\n  lategrad theory stability --late-share 0:0.5 --delay 1..4 --figure stability.svg\n");
    command->callback([options, &chosen] { chosen = [options] { return stability(*options); }; });
}

// momentum ------------------------------------------------------------------------------------------------------------

struct MeasureOptions {
    std::string late_share = "0:0.5";
    std::size_t points = 6;
    std::string figure;
    bool json = false;
    ProblemOptions problem{.rows = 64, .columns = 3};
    MomentumOptions momentum;
    std::optional<double> alpha;
};

int momentum(const MeasureOptions& options) {
    const auto shares = parse_shares(options.late_share, options.points);
    if (!options.figure.empty()) check_figure_path(options.figure);
    const std::size_t rows_given = *options.problem.rows, columns = *options.problem.columns;
    if (rows_given <= columns) {
        throw InputError(
            fmt::format("--rows {}: expected more than --cols {}; else minibatches make no noise along some "
                        "eigenvector, and there is nothing to measure",
                        rows_given, columns));
    }
    const auto problem = ridge_problem(options.problem, rows_given, columns);
    const auto eigenvalues = problem->eigenvalues();
    MomentumOptions run = options.momentum;
    run.alpha = options.alpha.value_or(1 / eigenvalues.back());
    run.seed = options.problem.seed;
    for (const double share : shares) {
        if (curvature_limit(delayed_steps(run.alpha, share, run.delay)) <= eigenvalues.back()) {
            const double limit = stable_step(share, run.delay) / eigenvalues.back();
            throw InputError(
                fmt::format("--alpha {:g}: at late share {:g} and delay {} it is stable only below {:.6g}; "
                            "choose a smaller one or smaller shares",
                            run.alpha, share, run.delay, limit));
        }
    }

    Figure figure{.x_label = "late share p", .y_label = "momentum: measured (marks), predicted (lines)", .curves = {}};
    for (std::size_t i = 0; i < eigenvalues.size(); ++i) {
        const int colour = static_cast<int>(i) + 1;
        figure.curves.push_back({.title = "", .points = {}, .colour = colour});
        figure.curves.push_back({.title = fmt::format("alpha·lambda = {:.3g}", run.alpha * eigenvalues[i]),
                                 .points = {},
                                 .marks = true,
                                 .colour = colour});
    }
    Table table(
        {{"late share"}, {"curvature"}, {"alpha·p·lambda"}, {"measured"}, {"± standard error"}, {"step/alpha"}});
    Json rows = Json::array();
    for (const double share : shares) {
        run.late_share = share;
        const auto fits = measure_momentum(*problem, run);
        ++run.run;
        for (std::size_t i = 0; i < fits.size(); ++i) {
            const MomentumFit& fit = fits[i];
            figure.curves[2 * i].points.push_back({.x = share, .y = fit.predicted});
            figure.curves[2 * i + 1].points.push_back({.x = share, .y = fit.measured, .error = fit.standard_error});
            table.add_row({fmt::format("{:.4g}", share), fmt::format("{:.4g}", fit.curvature),
                           fmt::format("{:.4f}", fit.predicted), fmt::format("{:.4f}", fit.measured),
                           fmt::format("{:.4f}", fit.standard_error), fmt::format("{:.4f}", fit.step / run.alpha)});
            rows.push_back({{"late_share", share},
                            {"delay", run.delay},
                            {"alpha", run.alpha},
                            {"curvature", fit.curvature},
                            {"predicted", fit.predicted},
                            {"measured", fit.measured},
                            {"standard_error", fit.standard_error},
                            {"step", fit.step},
                            {"step_standard_error", fit.step_standard_error}});
        }
    }
    if (!options.figure.empty()) draw_figure(figure, options.figure);
    if (options.json) {
        print(rows);
    } else {
        fmt::print("momentum along each eigenvector of a ridge regression, {} rows × {} columns, where a share of the\n"
                   "gradient mass is {} update{} late; alpha {:.6g}, {} updates with minibatches of {} rows\n{}",
                   problem->rows(), problem->columns(), run.delay, run.delay == 1 ? "" : "s", run.alpha, run.iterations,
                   run.batch, table.text());
        if (run.delay > 1) fmt::print("\nalpha·p·lambda is the momentum that one update of delay would be.\n");
    }
    return 0;
}

void add_momentum(CLI::App& theory, Command& chosen) {
    auto options = std::make_shared<MeasureOptions>();
    CLI::App* command = theory.add_subcommand(
        "momentum", "Measure the momentum that late gradients amount to, beside the one predicted");
    add_figure_options(*command, options->late_share, options->points, options->figure, options->json);
    command->add_option("--delay", options->momentum.delay, "updates by which it is late")
        ->type_name("D")
        ->capture_default_str()
        ->check(count(1, kDelayMax));
    command
        ->add_option("--alpha", options->alpha,
                     "total step of an update; default 1/b, b the largest eigenvalue of the Hessian")
        ->check(above_zero());
    command->add_option("--rows", options->problem.rows, "of the random problem; default 64")
        ->type_name("M")
        ->check(count(1, kElementsMax));
    command->add_option("--cols", options->problem.columns, "of the random problem, one momentum for each; default 3")
        ->type_name("D")
        ->check(count(1, kColumnsMax));
    add_eta(*command, options->problem.eta);
    command->add_option("--iterations", options->momentum.iterations, "updates; the error falls with their root")
        ->type_name("T")
        ->capture_default_str()
        ->check(count(1000, kIterationsMax));
    command->add_option("--batch", options->momentum.batch, "rows of a minibatch")
        ->type_name("ROWS")
        ->capture_default_str()
        ->check(count(1, kElementsMax));
    command->add_option("--seed", options->problem.seed, "of the problem and the minibatches")
        ->type_name("N")
        ->capture_default_str()
        ->check(count(0, std::numeric_limits<std::int64_t>::max()));
    command->footer("Example:\n  lategrad theory momentum --late-share 0:0.5 --points 6 --delay 1\n");
    command->callback([options, &chosen] { chosen = [options] { return momentum(*options); }; });
}

} // namespace

void add_theory(CLI::App& program, Command& chosen) {
    CLI::App* theory = program.add_subcommand(
        "theory", "What late gradients do to convergence: the condition, a problem with a known answer, stability");
    theory->require_subcommand(1);
    theory->footer("Examples:\n"
                   "  lategrad theory check --a 1 --b 10 --alpha 0.1 --late 0.003,0.002\n"
                   "  lategrad theory ridge --rows 200 --cols 20 --eta 1\n"
                   "  lategrad theory stability --late-share 0:0.5 --delay 1..4\n"
                   "  lategrad theory momentum --late-share 0:0.5 --points 6\n");
    add_check(*theory, chosen);
    add_ridge(*theory, chosen);
    add_stability(*theory, chosen);
    add_momentum(*theory, chosen);
}

} // namespace lategrad
