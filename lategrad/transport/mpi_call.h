/// The one boundary to MPI. Included only where <mpi.h> may be.
#pragma once

#include <mpi.h>

#include <memory>
#include <string>

#include "lategrad/core/error.h"
#include "lategrad/transport/mpi.h"

namespace lategrad {

/// Throws EnvironmentError with the name of the call and MPI's own words.
inline void mpi_check(int status, const char* call) {
    if (status == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    MPI_Error_string(status, text, &length);
    throw EnvironmentError(std::string(call) + " failed: " + std::string(text, static_cast<std::size_t>(length)));
}

/// Tags of our messages.
enum MpiTag : int {
    kHeaderTag = 1,  ///< a header; empty: goodbye, nothing follows
    kPayloadTag = 2, ///< the payload of the header before it
    kVerdictTag = 3, ///< rank 0 → others, after all transports: whether to finalize
};

/// `crowded` as PollPace means it.
std::unique_ptr<MpiTransport> make_mpi_transport(std::size_t rank, std::size_t size, bool crowded, const Clock& clock,
                                                 const MpiOptions& options);

} // namespace lategrad
