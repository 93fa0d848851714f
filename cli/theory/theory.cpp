/// lategrad theory: the condition under which late gradients converge, and what lies beyond it. A file per command.
#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "cli/theory/options.h"

namespace lategrad {

void add_theory(CLI::App& program, Command& chosen) {
    CLI::App* theory = program.add_subcommand(
        "theory", "What late gradients do to convergence: the condition, a problem with a known answer, stability");
    theory->require_subcommand(1);
    theory->footer("Examples:\n"
                   "  lategrad theory check --a 1 --b 10 --alpha 0.1 --late 0.003,0.002\n"
                   "  lategrad theory ridge --rows 200 --cols 20 --eta 1\n"
                   "  lategrad theory stability --late-share 0:0.5 --delay 1..4\n"
                   "  lategrad theory momentum --late-share 0:0.5 --points 6\n");
    theory_command::add_check(*theory, chosen);
    theory_command::add_ridge(*theory, chosen);
    theory_command::add_stability(*theory, chosen);
    theory_command::add_momentum(*theory, chosen);
}

} // namespace lategrad
