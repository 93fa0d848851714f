/// lategrad theory stability: the largest stable step over the share and the delay of late gradients.
#include <memory>
#include <string_view>

#include <fmt/format.h>

#include "cli/figure.h"
#include "cli/theory/options.h"
#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"
#include "lategrad/telemetry/table.h"
#include "lategrad/theory/stability.h"

namespace lategrad::theory_command {
namespace {

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
    ShareOptions shown;
    std::string delay = "1..4";
};

int stability(const StabilityOptions& options) {
    const auto shares = parse_shares(options.shown.late_share, options.shown.points);
    const auto delays = parse_delays(options.delay);
    if (!options.shown.figure.empty()) check_figure_path(options.shown.figure);
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
    if (!options.shown.figure.empty()) draw_figure(figure, options.shown.figure);
    if (options.shown.json) {
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

} // namespace

void add_stability(CLI::App& theory, Command& chosen) {
    auto options = std::make_shared<StabilityOptions>();
    CLI::App* command =
        theory.add_subcommand("stability", "The largest stable step over the share and the delay of late gradients");
    add_share_options(*command, options->shown);
    command->add_option("--delay", options->delay, "updates by which it is late, or FIRST..LAST")
        ->type_name("D")
        ->capture_default_str();
    command->footer("Example:\n  lategrad theory stability --late-share 0:0.5 --delay 1..4 --figure stability.svg\n");
    command->callback([options, &chosen] { chosen = [options] { return stability(*options); }; });
}

} // namespace lategrad::theory_command
