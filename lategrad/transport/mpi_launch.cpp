#include "lategrad/transport/mpi_launch.h"

#include <sys/socket.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

#include "lategrad/core/parse.h"

namespace lategrad {
namespace {

constexpr std::string_view kMpich = "MPICH's mpirun";

/// MPICH's mpirun forgets what it has not yet passed on when it ends the processes.
constexpr std::chrono::milliseconds kToBePassedOn{500};

std::optional<std::size_t> number_in(const char* variable) {
    const char* text = std::getenv(variable);
    return text ? parse_number<std::size_t>(text) : std::nullopt;
}

std::optional<MpiLaunch> launch_from(std::string_view launcher, const char* size, const char* rank, bool ends_all) {
    const auto processes = number_in(size);
    if (!processes || *processes == 0) return std::nullopt;
    return MpiLaunch{
        .launcher = launcher, .processes = *processes, .rank = number_in(rank).value_or(0), .ends_all = ends_all};
}

} // namespace

std::string_view mpi_build_name() {
    return LATEGRAD_MPI_NAME;
}

std::string_view mpi_build_launcher() {
    return LATEGRAD_MPIRUN_PROGRAM;
}

std::optional<MpiLaunch> mpi_launch() {
    if (auto launch = launch_from("Open MPI's mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", true)) {
        return launch;
    }
    // Within an allocation of Slurm, MPICH's mpirun starts by srun what then starts the processes: what srun says is
    // not of them.
    const bool by_mpich = std::getenv("MPI_LOCALNRANKS") != nullptr;
    // A batch script has SLURM_NTASKS without being one of many; the step's number of tasks is srun's alone.
    if (std::getenv("SLURM_PROCID") && !by_mpich) {
        if (auto launch = launch_from("Slurm's srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", false)) return launch;
    }
    return launch_from(kMpich, "PMI_SIZE", "PMI_RANK", true);
}

void end_launched_processes(int status) {
    const auto launch = mpi_launch();
    const auto to_launcher = number_in("PMI_FD");
    if (!launch || launch->launcher != kMpich || launch->processes < 2 || !to_launcher) return;
    std::this_thread::sleep_for(kToBePassedOn);
    const std::string abort = "cmd=abort exitcode=" + std::to_string(status) + "\n";
    // Fails where there is no launcher any more, and where the number has become that of a file.
    send(static_cast<int>(*to_launcher), abort.data(), abort.size(), MSG_NOSIGNAL);
}

} // namespace lategrad
