#include "lategrad/transport/mpi_launch.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

#include "lategrad/core/parse.h"

namespace lategrad {
namespace {

constexpr std::string_view kOpenMpi = "Open MPI's mpirun";
constexpr std::string_view kSlurm = "Slurm's srun";
constexpr std::string_view kMpich = "MPICH's mpirun";

/// MPICH's mpirun forgets what it has not yet passed on when it ends the processes.
constexpr std::chrono::milliseconds kToBePassedOn{500};

std::optional<std::size_t> number_in(const char* variable) {
    const char* text = std::getenv(variable);
    return text ? parse_number<std::size_t>(text) : std::nullopt;
}

std::optional<MpiLaunch> launch_from(std::string_view launcher, const char* size, const char* rank) {
    const auto processes = number_in(size);
    if (!processes || *processes == 0) return std::nullopt;
    return MpiLaunch{.launcher = launcher, .processes = *processes, .rank = number_in(rank).value_or(0)};
}

} // namespace

std::string_view mpi_build_name() {
    return LATEGRAD_MPI_NAME;
}

std::optional<MpiLaunch> mpi_launch() {
    if (auto launch = launch_from(kOpenMpi, "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")) return launch;
    // A batch script has SLURM_NTASKS without being one of many; the step's number of tasks is srun's alone.
    if (std::getenv("SLURM_PROCID")) {
        if (auto launch = launch_from(kSlurm, "SLURM_STEP_NUM_TASKS", "SLURM_PROCID")) return launch;
    }
    return launch_from(kMpich, "PMI_SIZE", "PMI_RANK");
}

void end_launched_processes(int status) {
    const auto launch = mpi_launch();
    const auto to_launcher = number_in("PMI_FD");
    if (!launch || launch->launcher != kMpich || launch->processes < 2 || !to_launcher) return;
    std::this_thread::sleep_for(kToBePassedOn);
    const std::string abort = "cmd=abort exitcode=" + std::to_string(status) + "\n";
    if (write(static_cast<int>(*to_launcher), abort.data(), abort.size()) < 0) return; // no launcher, nobody to end
}

} // namespace lategrad
