#include "lategrad/transport/mpi_launch.h"

#include <cstdlib>

#include "lategrad/core/parse.h"

namespace lategrad {
namespace {

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
    if (auto launch = launch_from("Open MPI's mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")) return launch;
    // A batch script has SLURM_NTASKS without being one of many; the step's number of tasks is srun's alone.
    if (std::getenv("SLURM_PROCID")) {
        if (auto launch = launch_from("Slurm's srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID")) return launch;
    }
    return launch_from("MPICH's mpirun", "PMI_SIZE", "PMI_RANK");
}

} // namespace lategrad
