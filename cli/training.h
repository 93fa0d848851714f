/// Assembles a training run out of the library's parts: server and workers as threads of this process, or this process
/// as one of them under MPI.
#pragma once

#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cli/options.h"
#include "lategrad/core/buffer.h"
#include "lategrad/node/run_event.h"
#include "lategrad/runtime/evaluation_thread.h"
#include "lategrad/runtime/mailbox.h"
#include "lategrad/server/ledger.h"
#include "lategrad/transport/clock.h"
#include "lategrad/transport/transport.h"

namespace lategrad {

/// What every node of a run is made from; the same in every process.
struct Problem {
    Job job;
    DataSplit data;
    std::unique_ptr<Model> model;
    std::vector<std::vector<std::uint32_t>> parts; ///< by worker
    std::vector<std::uint32_t> batches;            ///< by worker
    std::uint64_t run = 0;                         ///< names the run on the wire
};

/// Loads the data, makes the model. Throws InputError.
Problem make_problem(const Job& job);

/// What decides a run's bits besides its options, by name: libtorch and the machine (fingerprint), the model's initial
/// parameters or its file, the training examples.
std::map<std::string, std::string> run_fingerprint(const Problem& problem);

/// What a run tells and is told.
struct RunHooks {
    std::function<void(const RunEvent&)> tell;
    EvaluationThread::When evaluate = EvaluationThread::When::beside;
    std::size_t snapshots_max = 256; ///< When::after: how many versions are kept
    /// Called once with a function that asks for the run's end, from any thread; and once with an empty one after it.
    std::function<void(std::function<void()>)> stop_with;
};

struct Trained {
    Version version;
    std::vector<float> parameters; ///< of that version
    LedgerTotals ledger;
    Outcome outcome = Outcome::running;
    double seconds = 0; ///< from when all workers were there to the run's end
    std::uint64_t bytes_received = 0, bytes_sent = 0;
    /// What ended the run early: a worker that could not compute, an evaluation that failed. What was reached until
    /// then is whole, and worth keeping before this is rethrown.
    std::exception_ptr failure;
};

/// The server's side over any transport. Returns when the run has ended and every evaluation is made.
Trained serve(const Problem& problem, Transport& transport, const Clock& clock, const RunHooks& hooks);

/// A worker's side over any transport. Returns when the server has said stop or is gone; throws what went wrong in its
/// computations.
void work(const Problem& problem, WorkerId worker, Transport& transport, const Clock& clock);

/// All in this process. A worker that cannot compute ends the run.
Trained train_in_threads(const Problem& problem, const RunHooks& hooks);

} // namespace lategrad
