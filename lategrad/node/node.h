/// The shape of a node, worker or server: event in, effects out. A node does no I/O, never blocks, reads no clock and
/// computes nothing long (but for Publisher::payload), so that threads, MPI and the simulator drive the same code.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "lategrad/core/archive.h"
#include "lategrad/core/gradient.h"
#include "lategrad/core/thread_pool.h"
#include "lategrad/core/time.h"
#include "lategrad/node/run_event.h"
#include "lategrad/wire/message.h"

namespace lategrad {

/// A message arrived. Of parameters and pushes, whoever drives the node has read the payload once (Codec::validate,
/// PublishCodec::validate) and says here what it found.
struct MessageArrived {
    Peer peer;
    Message message;
    Reason defect = Reason::none; ///< not_finite or malformed: the payload must not be used
    std::optional<double> norm;   ///< of a gradient without a defect, where it was measured (gradient_norm)
};

/// The gradient asked for by `Effects::start_compute` is in its payload, or was given up.
struct ComputeDone {
    Step step;
    Buffer payload; ///< the encoded gradient; empty where it cannot be encoded (Encoder::encode), or was given up
    double loss = 0;
    double compute_seconds = 0;
    bool cancelled = false;
    bool failed = false; ///< it could not be computed: the worker leaves
};

/// The update asked for by `Effects::start_update` has been carried out.
struct UpdateDone {};

struct PeerLeft {
    Peer peer;
};

/// A sign of life of this peer, other than a message.
struct PeerHeard {
    Peer peer;
};

/// The time asked for by `Effects::wake_at` has come, or the run begins (every node's first event).
struct Timer {};

/// A snapshot given out by `Effects::evaluate` was evaluated.
struct EvaluationDone {
    Evaluation result;
};

/// The user asks for the end of the run (Ctrl-C).
struct StopRequested {};

using Event =
    std::variant<MessageArrived, ComputeDone, UpdateDone, PeerLeft, PeerHeard, Timer, EvaluationDone, StopRequested>;

/// For checkpoints of a simulation (lategrad/core/archive.h).
void persist(Archive& archive, Event& event);

struct Send {
    Peer to;
    Message message;
};

/// One gradient to compute and encode, at `params`.
struct ComputeJob {
    Step step;
    Version version;
    DataPosition data; ///< where its batch begins
    Buffer params;     ///< as they were sent; read-only, shared with others
    Buffer grad;       ///< this job's own: where the gradient is computed
    Buffer refund;     ///< a payload made before that will not be applied: what it carried joins the residual; or empty
    float residual_scale = 1; ///< EncodeStep
};

void persist(Archive& archive, ComputeJob& job);

/// One update to carry out on all cores. Owned by the server; untouched by it until UpdateDone.
class UpdateTask {
  public:
    virtual void run(ThreadPool& pool) = 0;

  protected:
    ~UpdateTask() = default;
};

/// A published version to be evaluated beside the run. Holds nothing of the server's but a share of the version.
struct Snapshot {
    Version version;
    Time at;
    std::uint64_t examples_applied = 0;
    Buffer params;
};

/// The server's state at a version, to be written beside the run. Shares what it holds, until it is written.
struct CheckpointDue {
    Version version;
    Time at;
    std::uint64_t events = 0; ///< that were told before; of later ones it knows nothing
    std::uint64_t examples_applied = 0;
    Incarnation incarnation;
    std::map<std::string, std::uint64_t> ledger; ///< its totals by name
    std::optional<double> data_coverage;
    Buffer params;
    ArchiveWriter::Captured state;
};

/// What a node wants done. Reused from event to event: `clear` keeps the memory.
struct Effects {
    std::vector<Send> sends;
    std::vector<Peer> forget; ///< given up: nothing of them is to be delivered any more (Transport::forget)
    std::optional<ComputeJob> start_compute;
    bool cancel_compute = false;
    UpdateTask* start_update = nullptr;
    std::optional<Snapshot> evaluate;
    std::optional<CheckpointDue> checkpoint;
    std::vector<RunEvent> events;
    Time wake_at = kNever; ///< the earliest time at which the node wants a Timer; asked anew after every event
    bool done = false;     ///< the node's work has ended; no more events, please. What it said may leave until wake_at

    void clear() {
        sends.clear();
        forget.clear();
        start_compute.reset();
        cancel_compute = false;
        start_update = nullptr;
        evaluate.reset();
        checkpoint.reset();
        events.clear();
        wake_at = kNever;
        done = false;
    }
};

class Node {
  public:
    virtual ~Node() = default;
    /// REQUIRES: `out` is clear; `now` never goes back.
    virtual void handle(const Event& event, Time now, Effects& out) = 0;
};

} // namespace lategrad
