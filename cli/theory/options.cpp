#include "cli/theory/options.h"

#include <limits>
#include <string_view>

#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"
#include "lategrad/data/arrays.h"

namespace lategrad::theory_command {
namespace {

constexpr double kConditionMax = 1e12; // beyond it the closed form is lost to rounding

void check_size(std::size_t rows, std::size_t columns, const std::string& where) {
    if (columns > kColumnsMax || rows > kElementsMax / columns) {
        throw InputError(
            fmt::format("{}: {} × {} is too large for dense algebra here; up to {} columns and {} elements", where,
                        rows, columns, kColumnsMax, kElementsMax));
    }
}

} // namespace

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

void add_late_option(CLI::App& command, std::optional<std::string>& late, const std::string& help) {
    command.add_option("--late", late, "steps of the gradients that are 1, 2, ... updates late" + help)
        ->type_name("Y1,Y2,...");
}

/// Not one of CLI11's lists, which leave out what is empty: a delay of its own here.
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

void add_problem_options(CLI::App& command, ProblemOptions& options, std::size_t default_rows,
                         std::size_t default_columns) {
    command.add_option("--rows", options.rows, fmt::format("of a random problem; default {}", default_rows))
        ->type_name("M")
        ->check(count(1, kElementsMax));
    command.add_option("--cols", options.columns, fmt::format("of a random problem; default {}", default_columns))
        ->type_name("D")
        ->check(count(1, kColumnsMax));
    command.add_option("--eta", options.eta, "of eta·|w|^2")
        ->capture_default_str()
        ->check(number("a number above 0, 1e12 at most", [](double value) { return value > 0 && value <= 1e12; }));
    command.add_option("--seed", options.seed, "of the random problem and the minibatches")
        ->type_name("N")
        ->capture_default_str()
        ->check(count(0, std::numeric_limits<std::int64_t>::max()));
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

void require_rows(const RidgeProblem& problem, std::size_t batch) {
    if (batch > problem.rows())
        throw InputError(fmt::format("--batch {}: there are only {} rows", batch, problem.rows()));
}

void add_share_options(CLI::App& command, ShareOptions& options) {
    command.add_option("--late-share", options.late_share, "share of the gradient mass that is late, or FIRST:LAST")
        ->type_name("P")
        ->capture_default_str();
    command.add_option("--points", options.points, "shares from FIRST to LAST")
        ->type_name("N")
        ->capture_default_str()
        ->check(count(2, 1000));
    command.add_option("--figure", options.figure, "draw it, with gnuplot")->type_name("FILE.svg");
    command.add_flag("--json", options.json, "an array of rows, as JSON");
}

} // namespace lategrad::theory_command
