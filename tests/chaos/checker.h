/// Holds a run's events to what must be true of every run, as they come. Pure: events in, violations out. An account of
/// the gradients that owes nothing to the server's ledger, nor to SummaryBuilder.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "lategrad/node/run_event.h"
#include "lategrad/telemetry/summary.h"

namespace lategrad::chaos {

/// What a run folder's lines hold beside the run events of the library.
struct CheckpointLine {
    std::optional<Version> version;
};
/// The server was started anew, and the run goes on from this version.
struct ResumeLine {
    std::optional<Version> version;
};
using Line = std::variant<RunEvent, CheckpointLine, ResumeLine>;

/// Reads a line of events.jsonl. Throws InputError.
Line parse_line(const std::string& text);

struct Violation {
    std::string what;
    std::uint64_t line = 0; ///< of events.jsonl, from 1; 0: of no line
};

struct Point {
    double seconds = 0;
    Version version;
    double accuracy = 0;
};

struct Totals {
    std::uint64_t pushed = 0, applied = 0, dropped = 0, held = 0, lost = 0, open = 0;
    std::uint64_t updates = 0;
    bool adds_up() const { return pushed == applied + dropped + held + lost + open; }
};

/// May be copied, to go back to where it was.
class Checker {
  public:
    /// `quorum`: fresh gradients that close an update, for seconds_with_quorum().
    explicit Checker(std::size_t quorum) : quorum_(quorum) {}

    void tell(const Line& line);
    /// The run has ended: nothing may be open, and the summary must say what the events say.
    void finish(const Summary& summary);

    const std::vector<Violation>& violations() const { return violations_; }
    Totals totals() const;
    Version version() const { return version_; }
    std::uint64_t lines() const { return lines_; }
    /// Workers that are here and not suspect.
    std::size_t active() const { return active_.size(); }
    bool is_active(WorkerId worker) const { return active_.contains(worker); }
    /// Time of the run during which at least `quorum` workers were active, and the updates made in it.
    double seconds_with_quorum() const { return with_quorum_; }
    std::uint64_t updates_with_quorum() const { return updates_with_quorum_; }
    const std::vector<Point>& accuracies() const { return accuracies_; }
    /// seconds_with_quorum() when a version at least as good as that was published.
    std::optional<double> reached(double accuracy) const;
    bool ended() const { return ended_; }

  private:
    struct Account {
        std::optional<Step> last;
        std::map<Step, Version> open; ///< assigned, and not arrived; with its base version
        std::map<Step, Version> held;
    };

    void check(const JoinEvent& join);
    void check(const LeaveEvent& leave);
    void check(const SuspectEvent& suspect);
    void check(const ReturnEvent& returned);
    void check(const AssignEvent& assign);
    void check(const ArriveEvent& arrive);
    void check(const LostEvent& lost);
    void check(const UpdateEvent& update);
    void check(const Evaluation& evaluation);
    void check(const EndEvent&);
    void check(const PauseEvent& pause);
    void check(const ExcludeEvent& excluded);
    template <class Other>
    void check(const Other&) {} ///< that say nothing to hold a run to
    void require_here(WorkerId worker, const char* what);
    void resume(const ResumeLine& resume);
    void pass_time(Time now);
    void violated(std::string what);

    std::size_t quorum_;
    std::uint64_t lines_ = 0;
    std::vector<Violation> violations_;
    std::map<WorkerId, Account> accounts_;
    std::set<WorkerId> here_, active_;
    std::set<WorkerId> before_resume_; ///< were here then, and have neither left nor come since
    Version version_;
    std::optional<Version> checkpoint_; ///< the last one told of
    std::uint64_t pushed_ = 0, applied_ = 0, dropped_ = 0, lost_ = 0, updates_ = 0;
    Time now_{};
    bool ended_ = false;
    double with_quorum_ = 0;
    std::uint64_t updates_with_quorum_ = 0;
    struct Reached {
        double seconds; ///< with quorum, when it was told of
        double accuracy;
    };
    std::vector<Reached> reached_;
    std::vector<Point> accuracies_;
    std::map<Version, double> published_; ///< seconds with quorum by version, of versions not evaluated yet
};

} // namespace lategrad::chaos
