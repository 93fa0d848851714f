#include "lategrad/transport/mpi_launch.h"

#include <charconv>
#include <cstdlib>
#include <cstring>

namespace lategrad {
namespace {

std::optional<std::size_t> number_in(const char* variable) {
    const char* text = std::getenv(variable);
    if (!text) return std::nullopt;
    std::size_t value = 0;
    const char* end = text + std::strlen(text);
    const auto [stop, error] = std::from_chars(text, end, value);
    if (error != std::errc{} || stop != end || value == 0) return std::nullopt;
    return value;
}

} // namespace

std::string_view mpi_build_name() {
    return LATEGRAD_MPI_NAME;
}

std::optional<MpiLaunch> mpi_launch() {
    if (const auto size = number_in("OMPI_COMM_WORLD_SIZE")) return MpiLaunch{"Open MPI's mpirun", *size};
    // A batch script has SLURM_NTASKS without being one of many; the step's number of tasks is srun's alone.
    if (std::getenv("SLURM_PROCID")) {
        if (const auto size = number_in("SLURM_STEP_NUM_TASKS")) return MpiLaunch{"Slurm's srun", *size};
    }
    if (const auto size = number_in("PMI_SIZE")) return MpiLaunch{"MPICH's mpirun", *size};
    return std::nullopt;
}

std::optional<std::size_t> mpi_launched_size() {
    const auto launch = mpi_launch();
    if (!launch) return std::nullopt;
    return launch->processes;
}

} // namespace lategrad
