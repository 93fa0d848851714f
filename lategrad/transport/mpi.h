/// The transport of a run whose server and workers are processes under mpirun or srun: rank 0 serves, rank r is worker
/// peer r. Point-to-point messages only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lategrad/transport/clock.h"
#include "lategrad/transport/transport.h"

namespace lategrad {

/// A transport over MPI. All calls but `wake` come from the thread that opened the session.
class MpiTransport : public Transport {
  public:
    /// After shutdown: every peer said goodbye, and nothing is still on its way.
    virtual bool clean() const = 0;
    /// Of each link that was given up, because of what came over it or because MPI failed on it: which, and why.
    virtual const std::vector<std::string>& faults() const = 0;
};

struct MpiOptions {
    /// A peer that announces a longer payload is given up.
    std::size_t payload_bytes_max = kPayloadBytesMax;
    /// Memory for so many payloads of that length, arriving or in the receiver's hands; others stay with their senders.
    std::size_t payloads_max = 2;
    /// Whether payloads sent are covered by a checksum. One that arrives with a checksum is always checked.
    PayloadChecksum checksum = PayloadChecksum::no;
    /// How often a peer to which nothing is on its way is told that we live, and PeerAlive reported at most twice as
    /// often; 0: never.
    Duration heartbeat{0};
};

/// This process's part in MPI, from MPI_Init to MPI_Finalize. At most one in a process's life.
class MpiSession {
  public:
    virtual ~MpiSession() = default;

    virtual std::size_t rank() const = 0;
    virtual std::size_t size() const = 0;
    /// As the MPI library names itself, on one line.
    virtual const std::string& library() const = 0;

    /// The end of peer `rank()`. One at a time; ends before the session. `clock` must outlive it.
    virtual std::unique_ptr<MpiTransport> make_transport(const Clock& clock, const MpiOptions& options) = 0;

    /// Leaves MPI if every rank's transport ended `clean`, which rank 0 tells the others; waits for its word for
    /// `patience` at most. False: MPI_Finalize could hang and was not called. Then write what must be written and leave
    /// by _exit. Every rank calls it, last.
    virtual bool finish(bool clean, Duration patience) = 0;
};

/// Starts MPI. The calling thread owns the session and its transports. Throws InputError where this build has no MPI or
/// was started by another MPI's mpirun.
std::unique_ptr<MpiSession> open_mpi_session();

} // namespace lategrad
