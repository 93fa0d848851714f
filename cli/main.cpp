#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/config.h"
#include "cli/launch/server_word.h"
#include "cli/options.h"
#include "lategrad/core/error.h"
#include "lategrad/telemetry/log.h"
#include "lategrad/transport/mpi_launch.h"

namespace {

constexpr int kFailed = 1;
constexpr int kBadInput = 2;

/// How long the other processes under mpirun leave the word to the first.
constexpr std::chrono::seconds kFirstSpeaks{5};

/// Under mpirun every process finds the same fault in the same command line; the first says so. Where the failure of
/// one is the end of all, the others wait for that end: whoever lives on found what the first did not. Else they are
/// silent, as they cannot know.
int complain(const std::string& what, int status) {
    const auto launch = lategrad::mpi_launch();
    const bool first = !launch || launch->rank == 0;
    if (!first && !launch->ends_all) return status;
    if (!first) std::this_thread::sleep_for(kFirstSpeaks);
    std::fputs(fmt::format("lategrad: {}{}\n", first ? "" : fmt::format("rank {}: ", launch->rank), what).c_str(),
               stderr);
    lategrad::tell_launch(status);
    lategrad::end_launched_processes(status);
    return status;
}

bool is_own_option(const CLI::App& program, const std::string& argument) {
    return argument.starts_with("-") && program.get_option_no_throw(argument);
}

/// What the first words of the command line name: a command, or a command of a command, as in `theory check`.
struct Named {
    const CLI::App* command;
    std::string path;      ///< each of its words behind a space; empty for the program itself
    std::size_t words = 0; ///< of the command line
};

/// Throws InputError where a command or an option must stand and a word is neither.
Named find_command(const CLI::App& program, const std::vector<std::string>& arguments) {
    Named named{.command = &program, .path = ""};
    while (named.words < arguments.size() && !named.command->get_subcommands({}).empty()) {
        const std::string& word = arguments[named.words];
        const auto found = named.command->get_subcommands([&](const CLI::App* c) { return c->check_name(word); });
        if (found.empty()) {
            if (is_own_option(*named.command, word)) break;
            throw lategrad::InputError(fmt::format("{}: there is no such {}; see lategrad{} --help", word,
                                                   word.starts_with("-") ? "option before a command" : "command",
                                                   named.path));
        }
        named.command = found.front();
        named.path += " " + word;
        ++named.words;
    }
    return named;
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
    lategrad::add_serve(program, chosen);
    lategrad::add_work(program, chosen);
    lategrad::add_keys(program, chosen);
    lategrad::add_launch(program, chosen);
    lategrad::add_compare(program, chosen);
    lategrad::add_simulate(program, chosen);
    lategrad::add_evaluate(program, chosen);
    lategrad::add_replay(program, chosen);
    lategrad::add_inspect(program, chosen);
    lategrad::add_theory(program, chosen);
    lategrad::add_bench(program, chosen);

    std::string command; // with a space before each word
    try {
        const Named named = find_command(program, arguments);
        command = named.path;
        if (named.words > 0) {
            const auto launch = lategrad::mpi_launch();
            if (launch && launch->processes > 1 && command != " train") {
                throw lategrad::InputError(fmt::format("{}: runs in one process, but {} started {}; start it by itself",
                                                       command.substr(1), launch->launcher, launch->processes));
            }
            // What stands behind a command that starts another one is looked at where that runs.
            auto behind = arguments.end();
            if (named.command->get_prefix_command()) {
                behind =
                    std::ranges::find_if(arguments, [](const auto& word) { return word == "--" || word == "train"; });
            }
            const auto own = static_cast<std::size_t>(behind - arguments.begin());
            if (behind != arguments.end() && *behind == "--") arguments.erase(behind);
            for (std::size_t i = 0; i < own; ++i) { // as of a variable of the shell that is not set
                const bool after_option = arguments[i].empty() && i > 0 && arguments[i - 1].starts_with("--");
                if (arguments[i].empty() || (arguments[i].starts_with("--") && arguments[i].ends_with('='))) {
                    throw lategrad::InputError(fmt::format("{}: expected a value, and it is empty",
                                                           after_option ? arguments[i - 1] : arguments[i]));
                }
            }
            for (std::size_t i = 0; i < own; ++i) {
                const std::string name = arguments[i].substr(0, arguments[i].find('='));
                if (name.starts_with("--") && name != "--" && !named.command->get_option_no_throw(name)) {
                    throw lategrad::InputError(
                        fmt::format("{}: there is no such option; see lategrad{} --help", name, command));
                }
            }
            if (named.command->get_option_no_throw("--config")) {
                const auto words = arguments.begin() + static_cast<std::ptrdiff_t>(named.words);
                auto expanded =
                    lategrad::expand_config(*named.command, lategrad::with_config_of_resumed({words, arguments.end()}));
                arguments.resize(named.words);
                arguments.insert(arguments.end(), expanded.begin(), expanded.end());
            }
        }
        program.parse(reversed(arguments));
    } catch (const CLI::Success& help) { // --help, --version
        return program.exit(help);
    } catch (const CLI::ParseError& error) {
        return complain(fmt::format("{}; see lategrad{} --help", error.what(), command), kBadInput);
    }
    const int status = chosen();
    if (std::fflush(stdout) != 0 || std::ferror(stdout)) {
        std::fputs("lategrad: standard output cannot be written to\n", stderr);
        return status == 0 ? kFailed : status;
    }
    return status;
}

} // namespace

int main(int argc, char** argv) {
    lategrad::log_to_stderr();
    try {
        return run({argv + 1, argv + argc});
    } catch (const lategrad::InputError& error) {
        return complain(error.what(), kBadInput);
    } catch (const std::filesystem::filesystem_error& error) { // of a path that the user named
        return complain(fmt::format("{}: {}", error.path1().string(), error.code().message()), kBadInput);
    } catch (const std::bad_alloc&) {
        return complain("there is not enough memory", kFailed);
    } catch (const std::exception& error) {
        return complain(error.what(), kFailed);
    }
}
