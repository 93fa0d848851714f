#include "tests/cli/program.h"

namespace lategrad {

std::string program_path() {
    return LATEGRAD_PROGRAM;
}

std::string mpirun(int processes) {
    const std::string launcher = LATEGRAD_MPIRUN_COMMAND;
    return launcher.empty() ? "" : launcher + " -n " + std::to_string(processes);
}

} // namespace lategrad
