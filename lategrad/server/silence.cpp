#include "lategrad/server/silence.h"

#include <algorithm>
#include <utility>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

using std::chrono::seconds;

constexpr Duration kSuspectMin = seconds(1);
constexpr Duration kSuspectStepsMax = seconds(10);
constexpr int kSuspectBeats = 4;
constexpr Duration kOverdueMin = seconds(60);
constexpr Duration kOverdueUnknown = seconds(600);
constexpr int kOverdueSteps = 20;
/// A step's share in the mean of steps.
constexpr int kMeanOf = 8;

} // namespace

Silence::Silence(const SilenceOptions& options, std::size_t workers) : options_(options), workers_(workers) {
    CHECK(!options.suspect_after || *options.suspect_after < options.dead_after);
}

Duration Silence::suspect_after(const Worker& worker) const {
    if (options_.suspect_after) return *options_.suspect_after;
    const Duration adapted =
        std::max({kSuspectMin, kSuspectBeats * options_.heartbeat, std::min(worker.step, kSuspectStepsMax)});
    return std::min(adapted, options_.dead_after / 2);
}

Duration Silence::overdue_after(const Worker& worker) const {
    if (options_.overdue_after) return *options_.overdue_after;
    return worker.step > Duration::zero() ? std::max(kOverdueMin, kOverdueSteps * worker.step) : kOverdueUnknown;
}

/// Its next time, as far as it is known now: what it does until then moves it on, not back.
void Silence::watch(const Worker& worker) {
    if (!watches() || worker.state == State::absent) return;
    if (worker.state == State::here) {
        ask_at(later(worker.heard, suspect_after(worker)));
        if (worker.assigned != kNever) ask_at(later(worker.assigned, overdue_after(worker)));
    } else {
        ask_at(later(worker.heard, options_.dead_after));
    }
}

void Silence::joined(WorkerId id, Time now) {
    Worker& worker = workers_[id.value()];
    worker.state = State::here;
    worker.heard = now;
    worker.assigned = kNever;
    watch(worker);
}

void Silence::awake(Time now) {
    const Time before = std::exchange(awake_at_, now);
    // Between two events there may be nothing to do until the next worker's time has come.
    if (!watches() || wake_at_ == kNever || now < later(std::max(before, wake_at_), suspect_after(Worker{}))) return;
    const Duration stall = now - before;
    for (Worker& worker : workers_) {
        if (worker.state == State::absent) continue;
        worker.heard = std::min(worker.heard + stall, now);
        if (worker.assigned != kNever) worker.assigned = std::min(worker.assigned + stall, now);
    }
}

void Silence::left(WorkerId id) {
    workers_[id.value()].state = State::absent;
}

bool Silence::heard(WorkerId id, Time now) {
    Worker& worker = workers_[id.value()];
    worker.heard = now;
    if (worker.state != State::suspect) return false;
    worker.state = State::here;
    watch(worker);
    return true;
}

void Silence::assigned(WorkerId id, Time now) {
    if (!watches()) return;
    Worker& worker = workers_[id.value()];
    worker.assigned = now;
    watch(worker);
}

bool Silence::arrived(WorkerId id, Time now) {
    if (!watches()) return false;
    Worker& worker = workers_[id.value()];
    worker.heard = now;
    if (worker.assigned != kNever) {
        const Duration step = now - worker.assigned;
        worker.step = worker.step > Duration::zero() ? worker.step + (step - worker.step) / kMeanOf : step;
        worker.assigned = kNever;
    }
    const bool returns = worker.state == State::suspect || worker.state == State::overdue;
    if (returns) worker.state = State::here;
    watch(worker);
    return returns;
}

std::optional<Silence::Judged> Silence::next(Time now) {
    if (!watches() || now < wake_at_) return std::nullopt;
    wake_at_ = kNever;
    for (std::uint32_t i = 0; i < workers_.size(); ++i) {
        Worker& worker = workers_[i];
        std::optional<Verdict> verdict;
        const Duration silence = now - worker.heard;
        if (worker.state == State::here) {
            if (silence >= suspect_after(worker)) {
                verdict = Verdict::suspect;
                worker.state = State::suspect;
                if (silence >= options_.dead_after) worker.heard = now - suspect_after(worker); // it was asked late
            } else if (worker.assigned != kNever && now - worker.assigned >= overdue_after(worker)) {
                verdict = Verdict::overdue;
                worker.state = State::overdue;
            }
        } else if (worker.state != State::absent && silence >= options_.dead_after) {
            verdict = Verdict::dead;
            worker.state = State::absent;
        }
        if (verdict) {
            wake_at_ = now; // for those behind it
            return Judged{WorkerId{i}, *verdict};
        }
        watch(worker);
    }
    return std::nullopt;
}

} // namespace lategrad
