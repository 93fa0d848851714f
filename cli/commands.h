/// The subcommands: each declares itself on the program and sets what is run when it is named.
#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace lategrad {

/// Returns the exit status.
using Command = std::function<int()>;

void add_train(CLI::App& program, Command& chosen);
void add_compare(CLI::App& program, Command& chosen);
void add_evaluate(CLI::App& program, Command& chosen);
void add_replay(CLI::App& program, Command& chosen);
void add_inspect(CLI::App& program, Command& chosen);
void add_simulate(CLI::App& program, Command& chosen);
void add_theory(CLI::App& program, Command& chosen);
void add_bench(CLI::App& program, Command& chosen);
void add_serve(CLI::App& program, Command& chosen);
void add_work(CLI::App& program, Command& chosen);
void add_keys(CLI::App& program, Command& chosen);
/// REQUIRES: train is declared.
void add_launch(CLI::App& program, Command& chosen);

} // namespace lategrad
