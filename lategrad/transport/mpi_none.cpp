#include "lategrad/core/error.h"
#include "lategrad/transport/mpi.h"

namespace lategrad {

std::unique_ptr<MpiSession> open_mpi_session() {
    throw InputError("this build has no MPI; configure it with -DLATEGRAD_MPI=openmpi or -DLATEGRAD_MPI=mpich");
}

} // namespace lategrad
