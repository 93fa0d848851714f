/// What happened in a run, as the server tells it: the lines of events.jsonl.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "lategrad/core/fate.h"
#include "lategrad/core/gradient.h"
#include "lategrad/core/ids.h"
#include "lategrad/core/time.h"

namespace lategrad {

struct JoinEvent {
    WorkerId worker;
    std::uint32_t examples;
    std::string from = {}; ///< host and process, as the worker says; empty where workers are those that were started
};

struct LeaveEvent {
    WorkerId worker;
};

/// A worker that is here has been silent, or over a gradient, for too long: it is out of n and k, and nothing of its is
/// decided. Then either it is heard again (ReturnEvent), or it is given up (LeaveEvent).
struct SuspectEvent {
    WorkerId worker;
    bool overdue = false; ///< it is heard, but its gradient does not come
};
struct ReturnEvent {
    WorkerId worker;
};

/// A worker has sent too many gradients that could not be used, and takes part no longer; its LeaveEvent follows.
struct ExcludeEvent {
    WorkerId worker;
    Reason reason; ///< of the last of them
};

/// With fewer than `needed` active workers no update closes; and with enough of them again.
struct PauseEvent {
    std::size_t active;
    std::size_t needed;
};
struct ContinueEvent {
    std::size_t active;
};

/// The run goes on from a checkpoint of this version, with another server: what was under way is lost.
struct ResumeEvent {
    Incarnation incarnation;
    Version version;
};

/// From now on this part of the data is this worker's.
struct PartEvent {
    std::uint32_t part;
    WorkerId worker;
};

/// Parameters of `version` were sent and start gradient (worker, step).
struct AssignEvent {
    WorkerId worker;
    Step step;
    Version version;
    std::optional<DataPosition> data; ///< where its batch begins, if not at own_data
};

/// Gradient (worker, step) arrived and was decided on: apply, hold or drop. `held` ones meet their fate in an update.
struct ArriveEvent {
    WorkerId worker;
    Step step;
    Version base;
    Fate fate;
    Reason reason;
    double loss;
    double compute_seconds;
};

/// An assignment that ended without a gradient.
struct LostEvent {
    WorkerId worker;
    Step step;
    Reason reason;
};

/// An update: `version` became `version + 1`.
struct UpdateEvent {
    Version version;
    std::vector<AppliedGradient> applied; ///< in (worker, step) order, the order of the sum
    double denominator = 0;               ///< D, in examples
    double learning_rate = 0;
    double loss = 0;                    ///< mean over the applied gradients' batches
    std::uint64_t examples_applied = 0; ///< in the run so far
    std::uint64_t bytes_received = 0;   ///< payloads and headers, in the run so far
    std::uint64_t bytes_sent = 0;
};

/// Loss and, for a classifier, accuracy of a version on the test part.
struct Evaluation {
    Version version;
    Time at; ///< when the version was published
    std::uint64_t examples_applied = 0;
    double loss = 0;
    std::optional<double> accuracy;
};

/// Why a run ended.
enum class Outcome : std::uint8_t {
    running,
    updates,
    epochs,
    time_limit,
    target_accuracy,
    interrupted,
    no_workers,
    diverged
};
std::string_view to_string(Outcome outcome);
/// True for the ends that were asked for in the options.
bool reached_end(Outcome outcome);

struct EndEvent {
    Outcome outcome;
};

using RunEventBody =
    std::variant<JoinEvent, LeaveEvent, AssignEvent, ArriveEvent, LostEvent, UpdateEvent, Evaluation, EndEvent,
                 SuspectEvent, ReturnEvent, ExcludeEvent, PauseEvent, ContinueEvent, PartEvent, ResumeEvent>;

struct RunEvent {
    Time at;
    RunEventBody body;
};

} // namespace lategrad
