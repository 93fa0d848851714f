/// What the commands of `lategrad theory` share: their options, the problem they run on, what `--json` prints.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "lategrad/theory/ridge.h"

namespace lategrad::theory_command {

using Json = nlohmann::ordered_json;

inline constexpr std::size_t kDelayMax = 64;     ///< a polynomial of that degree still has its roots found in no time
inline constexpr std::size_t kColumnsMax = 2000; ///< a dense Hessian and its eigenvectors
inline constexpr std::size_t kElementsMax = 50'000'000;  ///< of X, in doubles
inline constexpr std::uint64_t kIterationsMax = 1 << 30; ///< days

void add_check(CLI::App& theory, Command& chosen);
void add_ridge(CLI::App& theory, Command& chosen);
void add_stability(CLI::App& theory, Command& chosen);
void add_momentum(CLI::App& theory, Command& chosen);

/// Infinity, which JSON does not have, as null.
void print(const Json& json);

CLI::Validator number(const char* expected, bool (*good)(double));
CLI::Validator above_zero();
CLI::Validator count(std::uint64_t least, std::uint64_t most);

void add_late_option(CLI::App& command, std::optional<std::string>& late, const std::string& help);
/// Of `--late`: steps of the gradients that are 1, 2, … updates late. Throws InputError.
std::vector<double> parse_late(const std::string& text);
/// Of `--late-share`: `points` shares from FIRST to LAST of FIRST:LAST, or the one of a plain number. Throws
/// InputError.
std::vector<double> parse_shares(const std::string& text, std::size_t points);

/// A ridge regression: of a file, or random.
struct ProblemOptions {
    std::string data;
    std::optional<std::size_t> rows;
    std::optional<std::size_t> columns;
    double eta = 1;
    std::uint64_t seed = 1;
};

/// Declares all of them but `--data`; the help says these defaults, which the command fills in.
void add_problem_options(CLI::App& command, ProblemOptions& options, std::size_t default_rows,
                         std::size_t default_columns);
/// `rows` and `columns` are those of a random one. Throws InputError.
std::unique_ptr<RidgeProblem> ridge_problem(const ProblemOptions& options, std::size_t rows, std::size_t columns);

/// Of `--batch`, rows of a minibatch. Throws InputError.
void require_rows(const RidgeProblem& problem, std::size_t batch);

/// Of the commands that show a value over the share of late gradients.
struct ShareOptions {
    std::string late_share = "0:0.5";
    std::size_t points = 11;
    std::string figure;
    bool json = false;
};

void add_share_options(CLI::App& command, ShareOptions& options);

} // namespace lategrad::theory_command
