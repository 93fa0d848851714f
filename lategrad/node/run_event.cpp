#include "lategrad/node/run_event.h"

#include "lategrad/core/error.h"

namespace lategrad {

std::string_view to_string(Outcome outcome) {
    switch (outcome) {
    case Outcome::running: return "running";
    case Outcome::updates: return "updates";
    case Outcome::epochs: return "epochs";
    case Outcome::time_limit: return "time limit";
    case Outcome::target_accuracy: return "target accuracy";
    case Outcome::interrupted: return "interrupted";
    case Outcome::no_workers: return "no workers";
    case Outcome::diverged: return "diverged";
    }
    CHECK(false && "unknown outcome");
}

bool reached_end(Outcome outcome) {
    return outcome == Outcome::updates || outcome == Outcome::epochs || outcome == Outcome::time_limit ||
           outcome == Outcome::target_accuracy;
}

} // namespace lategrad
