/// Who has not been heard for how long. A silent worker is first suspect, then dead; one that is heard but does not
/// deliver is overdue. Reads no clock.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "lategrad/core/ids.h"
#include "lategrad/core/time.h"

namespace lategrad {

struct SilenceOptions {
    /// Between two signs of life of a worker that is well; 0: silence means nothing, and nobody is ever suspect.
    Duration heartbeat{0};
    /// Silence that makes a worker suspect. Default: four heartbeats, a second at least, and as long as its steps take,
    /// up to ten seconds: a machine that computes for long may also be slow to say that it lives.
    std::optional<Duration> suspect_after;
    /// Silence that makes it dead; longer than suspect_after.
    Duration dead_after = std::chrono::seconds(30);
    /// How long a gradient may take before its worker is overdue. Default: 20 times as long as its steps take, a minute
    /// at least; ten minutes where none is known.
    std::optional<Duration> overdue_after;
};

class Silence {
  public:
    enum class Verdict { suspect, overdue, dead };

    Silence(const SilenceOptions& options, std::size_t workers);

    bool watches() const { return options_.heartbeat > Duration::zero(); }
    /// REQUIRES of all that follow: now never goes back.
    void joined(WorkerId worker, Time now);
    void left(WorkerId worker);
    /// REQUIRED at every event, before all else. Where whoever judges did not run when it was time to, what workers
    /// said meanwhile has yet to be read: that time is nobody's silence.
    void awake(Time now);
    /// A sign of life. True where the worker was suspect and is no more.
    bool heard(WorkerId worker, Time now);
    /// It was sent parameters.
    void assigned(WorkerId worker, Time now);
    /// Its gradient came. True where it was suspect or overdue and is no more.
    bool arrived(WorkerId worker, Time now);

    struct Judged {
        WorkerId worker;
        Verdict verdict;
    };
    /// The next worker whose time has come, the first by number; ask until there is none. Nobody is suspect and dead at
    /// once. The dead are as if they had left.
    std::optional<Judged> next(Time now);
    template <class A>
    void archive(A& archive) {
        archive.expect(workers_.size(), "the number of places");
        for (Worker& worker : workers_) {
            archive.enumerator(worker.state, State::overdue);
            archive(worker.heard, worker.assigned, worker.step);
        }
        archive(wake_at_, awake_at_);
    }

    /// When to ask again.
    Time wake_at() const { return wake_at_; }

  private:
    enum class State { absent, here, suspect, overdue };
    struct Worker {
        State state = State::absent;
        Time heard{};
        Time assigned = kNever; ///< what it computes
        Duration step{0};       ///< mean of its steps, from parameters to gradient; 0: none has ended
    };
    Duration suspect_after(const Worker& worker) const;
    Duration overdue_after(const Worker& worker) const;
    void ask_at(Time at) { wake_at_ = at < wake_at_ ? at : wake_at_; }
    void watch(const Worker& worker);

    SilenceOptions options_;
    std::vector<Worker> workers_;
    Time wake_at_ = kNever; ///< not later than any worker's time
    Time awake_at_{};       ///< the last time that it was known to run
};

} // namespace lategrad
