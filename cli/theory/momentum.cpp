/// lategrad theory momentum: the momentum that late gradients amount to, measured.
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "cli/figure.h"
#include "cli/theory/options.h"
#include "lategrad/core/error.h"
#include "lategrad/telemetry/table.h"
#include "lategrad/theory/momentum.h"
#include "lategrad/theory/multi_step.h"
#include "lategrad/theory/stability.h"

namespace lategrad::theory_command {
namespace {

constexpr std::size_t kDefaultRows = 64;
constexpr std::size_t kDefaultColumns = 3;

struct MeasureOptions {
    ShareOptions shown{.points = 6};
    ProblemOptions problem;
    MomentumOptions momentum;
    std::optional<double> alpha;
};

int momentum(const MeasureOptions& options) {
    const auto shares = parse_shares(options.shown.late_share, options.shown.points);
    if (!options.shown.figure.empty()) check_figure_path(options.shown.figure);
    const std::size_t rows_given = options.problem.rows.value_or(kDefaultRows);
    const std::size_t columns = options.problem.columns.value_or(kDefaultColumns);
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
    require_rows(*problem, run.batch);
    const double alpha_least = 10 / (eigenvalues.front() * static_cast<double>(run.iterations));
    if (run.alpha < alpha_least) {
        throw InputError(
            fmt::format("--alpha {:g}: in {} updates nothing would move far enough to measure it; expected "
                        "{:.3g} at least",
                        run.alpha, run.iterations, alpha_least));
    }
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
    if (!options.shown.figure.empty()) draw_figure(figure, options.shown.figure);
    if (options.shown.json) {
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

} // namespace

void add_momentum(CLI::App& theory, Command& chosen) {
    auto options = std::make_shared<MeasureOptions>();
    CLI::App* command = theory.add_subcommand(
        "momentum", "Measure the momentum that late gradients amount to, beside the one predicted");
    add_share_options(*command, options->shown);
    command->add_option("--delay", options->momentum.delay, "updates by which it is late")
        ->type_name("D")
        ->capture_default_str()
        ->check(count(1, kDelayMax));
    command
        ->add_option("--alpha", options->alpha,
                     "total step of an update; default 1/b, b the largest eigenvalue of the Hessian")
        ->check(above_zero());
    add_problem_options(*command, options->problem, kDefaultRows, kDefaultColumns);
    command->add_option("--iterations", options->momentum.iterations, "updates; the error falls with their root")
        ->type_name("T")
        ->capture_default_str()
        ->check(count(1000, kIterationsMax));
    command->add_option("--batch", options->momentum.batch, "rows of a minibatch")
        ->type_name("ROWS")
        ->capture_default_str()
        ->check(count(1, kElementsMax));
    command->footer("Example:\n  lategrad theory momentum --late-share 0:0.5 --points 6 --delay 1\n");
    command->callback([options, &chosen] { chosen = [options] { return momentum(*options); }; });
}

} // namespace lategrad::theory_command
