/// What can be known and done without MPI: which one this build has, whether this process was started as one of many,
/// and the end of them all.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace lategrad {

/// "Open MPI", "MPICH" or "none".
std::string_view mpi_build_name();
/// That MPI's mpirun, by its path where this was built; empty where there is none.
std::string_view mpi_build_launcher();

struct MpiLaunch {
    std::string_view launcher; ///< "Open MPI's mpirun", "MPICH's mpirun" or "Slurm's srun"
    std::size_t processes = 0;
    std::size_t rank = 0;  ///< of this one
    bool ends_all = false; ///< one that fails is the end of all: the launcher sees to it, or can be told to
};

/// What the environment says of who started this process: nothing where no launcher of parallel programs did.
std::optional<MpiLaunch> mpi_launch();

/// For a process that fails before MPI_Init and has said why: MPICH's mpirun would let the others wait for it in
/// theirs, and is told to end them, as by MPI_Abort (PMI-1, the command `abort`). Nothing under the others: Open MPI's
/// mpirun ends them by itself, and srun knows no such command.
void end_launched_processes(int status);

} // namespace lategrad
