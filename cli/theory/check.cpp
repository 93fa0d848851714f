/// lategrad theory check: the condition beside the true limit.
#include <cmath>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "cli/theory/options.h"
#include "lategrad/core/error.h"
#include "lategrad/telemetry/table.h"
#include "lategrad/theory/multi_step.h"
#include "lategrad/theory/stability.h"

namespace lategrad::theory_command {
namespace {

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

} // namespace

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
    add_late_option(*command, options->late, ", in the unit of alpha; default none");
    command->add_flag("--json", options->json, "as JSON");
    command->footer("Example:\n  lategrad theory check --a 1 --b 10 --alpha 0.1 --late 0.003,0.002\n");
    command->callback([options, &chosen] { chosen = [options] { return check(*options); }; });
}

} // namespace lategrad::theory_command
