/// Assembles a training run out of the library's parts: server and workers as threads of this process, or this process
/// as one of them under MPI.
#pragma once

#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/options.h"
#include "lategrad/checkpoint/checkpoint.h"
#include "lategrad/codec/codec.h"
#include "lategrad/core/buffer.h"
#include "lategrad/data/batcher.h"
#include "lategrad/node/run_event.h"
#include "lategrad/runtime/evaluation_thread.h"
#include "lategrad/runtime/mailbox.h"
#include "lategrad/server/ledger.h"
#include "lategrad/server/server.h"
#include "lategrad/telemetry/summary.h"
#include "lategrad/transport/clock.h"
#include "lategrad/transport/transport.h"
#include "lategrad/worker/compute_time.h"
#include "lategrad/worker/worker.h"

namespace lategrad {

class TorchEvaluator;

/// What every node of a run is made from; the same in every process.
struct Problem {
    Job job;
    DataSplit data;
    std::unique_ptr<Model> model;
    std::shared_ptr<const Parts> parts; ///< of the data, one for each of --workers; null where there is no data
    std::vector<std::uint32_t> batches; ///< by part
    std::uint64_t run = 0;              ///< names the run on the wire
    /// Where nothing is computed: how long workers pretend that it takes.
    std::optional<ComputeTime> pretend;

    /// Examples to train on; 1 where there is no data.
    std::uint64_t epoch_examples() const { return data.train ? data.train->size() : 1; }
    /// A worker's batch size.
    std::uint32_t batch_of(WorkerId worker) const { return batches[worker.value() % batches.size()]; }
    Batcher batcher(WorkerId worker) const { return {data.train, parts, batch_of(worker), job.options.seed}; }
};

/// Loads the data, makes the model. Throws InputError.
Problem make_problem(const Job& job);

/// Where --late-weight certified is to estimate the curvature, does so, and says so on standard error; else as it is.
/// For the serving side alone: workers need no weights, and a replay has them recorded. Throws InputError.
Problem certified(Problem problem);

/// What decides a run's bits besides its options, by name: libtorch and the machine (fingerprint), the model's initial
/// parameters or its file, the training examples.
std::map<std::string, std::string> run_fingerprint(const Problem& problem);

/// Says on stderr where a codec takes the momentum over from the server.
void warn_of_momentum(const Job& job);
/// Says on stderr what may surprise a user of this problem.
void warn_of_surprises(const Problem& problem);

/// What a run tells and is told.
struct RunHooks {
    std::function<void(const RunEvent&)> tell;
    std::function<void(CheckpointDue&&)> checkpoint; ///< empty: none are made
    const Checkpoint* resume = nullptr;              ///< to go on from
    Incarnation incarnation;                         ///< of a server that goes on
    EvaluationThread::When evaluate = EvaluationThread::When::beside;
    std::size_t snapshots_max = 256; ///< When::after: how many versions are kept
    /// Called once with a function that asks for the run's end, from any thread; and once with an empty one after it.
    std::function<void(std::function<void()>)> stop_with;
};

/// Lets others ask for the end of the run for as long as there is somebody to ask.
class StopAsked {
  public:
    StopAsked(const RunHooks& hooks, std::function<void()> ask) : hooks_(hooks) {
        if (hooks_.stop_with) hooks_.stop_with(std::move(ask));
    }
    ~StopAsked() {
        if (hooks_.stop_with) hooks_.stop_with({});
    }
    StopAsked(const StopAsked&) = delete;
    StopAsked& operator=(const StopAsked&) = delete;

  private:
    const RunHooks& hooks_;
};

struct Trained {
    Version version;
    std::vector<float> parameters; ///< of that version
    LedgerTotals ledger;
    std::optional<double> data_coverage; ///< DataPlan::coverage
    Outcome outcome = Outcome::running;
    double seconds = 0; ///< from when all workers were there to the run's end
    std::uint64_t bytes_received = 0, bytes_sent = 0;
    std::optional<ServerLoad> server_load;       ///< of a simulation
    std::map<std::string, std::uint64_t> faults; ///< Summary::faults
    /// What ended the run early: a worker that could not compute, an evaluation that failed. What was reached until
    /// then is whole, and worth keeping before this is rethrown.
    std::exception_ptr failure;
};

/// What a run came to by its server's account, but for the parameters. REQUIRES: it has ended.
Trained trained_by(const Server& server);

/// What codecs must know of this problem, with so many floats in its flat vectors.
CodecSetup codec_setup(const Problem& problem, std::size_t trainable, std::size_t size);
/// What `lowrank` factors.
std::vector<MatrixShape> matrices_of(const Model& model);

/// The longest payload that the server receives (gradients), or a worker (parameters).
std::size_t received_bytes_max(const Problem& problem, bool serves);

/// The snapshot's loss and accuracy on the test part; nothing where it was given up.
std::optional<Evaluation> judge(TorchEvaluator& evaluator, const Snapshot& snapshot, const Dataset& test,
                                const std::function<bool()>& given_up);

/// What a server of this problem, with so many floats in its flat vectors, is made with.
ServerOptions server_options(const Problem& problem, std::size_t trainable, std::size_t size);

/// What a server needs to know where its workers are processes of their own.
struct ServeSetup {
    bool heartbeats = false; ///< its transport's
    // Where workers come as they like:
    std::optional<Admission> admission;
    std::uint64_t run = 0; ///< names the run
    std::size_t places = 0;
    std::size_t spare_peers = 0; ///< that the transport has beside those who have a place
    Duration reassign_after = Duration::max();
};

/// The server's side over any transport. Returns when the run has ended and every evaluation is made.
Trained serve(const Problem& problem, Transport& transport, const Clock& clock, const RunHooks& hooks,
              ServeSetup setup = {});

/// Who a worker of an elastic run is.
struct ElasticWorker {
    std::uint64_t run = 0;     ///< as the server named it
    std::uint64_t process = 0; ///< names this one
    Buffer traits;             ///< of its problem (traits_text)
    /// As RunHooks::stop_with.
    std::function<void(std::function<void()>)> stop_with;
    /// Called when it was asked to stop and has said goodbye, though its gradient may take a while yet.
    std::function<void()> stopped;
};

/// How a worker's work ended.
struct WorkEnd {
    bool told_to_stop = false; ///< the run is over; else the server is gone, or has refused it
    std::optional<Worker::Refusal> refusal;
};

/// A worker's side over any transport. Returns when the server has said stop, has refused it or is gone; throws what
/// went wrong in its computations.
WorkEnd work(const Problem& problem, WorkerId worker, Transport& transport, const Clock& clock,
             const std::optional<ElasticWorker>& elastic = std::nullopt);

/// All in this process. A worker that cannot compute ends the run.
Trained train_in_threads(const Problem& problem, const RunHooks& hooks);

} // namespace lategrad
