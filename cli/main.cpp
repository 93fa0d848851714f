#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "lategrad/core/error.h"
#include "lategrad/telemetry/log.h"
#include "lategrad/transport/mpi_launch.h"

namespace {

constexpr int kFailed = 1;
constexpr int kBadInput = 2;

/// Under mpirun every process finds the same fault in the same command line; one of them says so.
void complain(const std::string& what) {
    const auto launch = lategrad::mpi_launch();
    if (!launch || launch->rank == 0) std::fputs(fmt::format("lategrad: {}\n", what).c_str(), stderr);
}

/// CLI11 takes arguments from the back.
std::vector<std::string> reversed(const std::vector<std::string>& arguments) {
    return {arguments.rbegin(), arguments.rend()};
}

int run(std::vector<std::string> arguments) {
    CLI::App program("Trains neural networks at the pace of the k fastest of n workers, and uses what the late ones "
                     "computed.\n\nStart here:\n"
                     "  lategrad train --workers 8 --wait-for 6 --straggle exp:20ms\n"
                     "  mpirun -n 9 lategrad train --policy reuse --epochs 5\n"
                     "  lategrad compare --policies sync,backup,reuse --time-limit 30 --workers 8",
                     "lategrad");
    program.set_version_flag("--version",
                             fmt::format("lategrad {} (MPI: {})", LATEGRAD_VERSION, lategrad::mpi_build_name()));
    program.require_subcommand(1);
    program.fallthrough(false);
    lategrad::Command chosen;
    lategrad::add_train(program, chosen);
    lategrad::add_compare(program, chosen);
    lategrad::add_evaluate(program, chosen);
    lategrad::add_replay(program, chosen);
    lategrad::add_inspect(program, chosen);

    std::string command;
    try {
        if (!arguments.empty()) {
            const auto named = program.get_subcommands([&](CLI::App* c) { return c->check_name(arguments.front()); });
            if (named.empty() && !arguments.front().starts_with("-")) {
                throw lategrad::InputError(
                    fmt::format("{}: there is no such command; see lategrad --help", arguments.front()));
            }
            if (!named.empty()) {
                command = arguments.front();
                if (named.front()->get_option_no_throw("--config")) {
                    auto expanded = lategrad::expand_config(*named.front(), {arguments.begin() + 1, arguments.end()});
                    arguments.resize(1);
                    arguments.insert(arguments.end(), expanded.begin(), expanded.end());
                }
            }
        }
        program.parse(reversed(arguments));
    } catch (const CLI::Success& help) { // --help, --version
        return program.exit(help);
    } catch (const CLI::ParseError& error) {
        complain(fmt::format("{}; see lategrad{} --help", error.what(), command.empty() ? "" : " " + command));
        return kBadInput;
    }
    return chosen();
}

} // namespace

int main(int argc, char** argv) {
    lategrad::log_to_stderr();
    try {
        return run({argv + 1, argv + argc});
    } catch (const lategrad::InputError& error) {
        complain(error.what());
        return kBadInput;
    } catch (const std::exception& error) {
        complain(error.what());
        return kFailed;
    }
}
