#include "lategrad/core/fate.h"

#include "lategrad/core/error.h"

namespace lategrad {

std::string_view to_string(Fate fate) {
    switch (fate) {
    case Fate::apply: return "apply";
    case Fate::hold: return "hold";
    case Fate::drop: return "drop";
    case Fate::lost: return "lost";
    }
    CHECK(false && "unknown fate");
}

std::string_view to_string(Reason reason) {
    switch (reason) {
    case Reason::none: return "none";
    case Reason::fresh: return "fresh";
    case Reason::late: return "late";
    case Reason::too_stale: return "too stale";
    case Reason::not_finite: return "not finite";
    case Reason::malformed: return "malformed";
    case Reason::cancelled: return "cancelled";
    case Reason::worker_gone: return "worker gone";
    case Reason::run_ended: return "run ended";
    case Reason::too_large: return "too large";
    case Reason::excluded: return "excluded";
    case Reason::rolled_back: return "rolled back";
    }
    CHECK(false && "unknown reason");
}

} // namespace lategrad
