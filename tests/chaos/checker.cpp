#include "tests/chaos/checker.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "lategrad/core/error.h"
#include "lategrad/telemetry/event_json.h"

namespace lategrad::chaos {
namespace {

constexpr std::size_t kViolationsMax = 50;
constexpr std::size_t kPublishedMax = 10'000;

std::string gradient(WorkerId worker, Step step) {
    return fmt::format("gradient (worker {}, step {})", worker.value(), step.value());
}

bool positive(double value) {
    return std::isfinite(value) && value > 0;
}

std::optional<Version> version_in(const nlohmann::json& json) {
    const auto found = json.find("version");
    if (found == json.end() || !found->is_number_unsigned()) return std::nullopt;
    return Version{found->get<std::uint64_t>()};
}

} // namespace

Line parse_line(const std::string& text) {
    // The commonest lines are told apart by their beginning; the library reads them.
    if (text.starts_with(R"({"type":"resume")") || text.starts_with(R"({"type":"checkpoint")")) {
        const auto json = nlohmann::json::parse(text, nullptr, false);
        if (!json.is_object()) throw InputError("no JSON object: " + text);
        if (json["type"] == "resume") return ResumeLine{version_in(json)};
        return CheckpointLine{version_in(json)};
    }
    return parse_json_line(text);
}

void Checker::violated(std::string what) {
    if (violations_.size() < kViolationsMax) violations_.push_back({std::move(what), lines_});
}

void Checker::pass_time(Time now) {
    if (now < now_)
        return violated(fmt::format("time goes back from {:.6f} s to {:.6f} s", seconds(now_), seconds(now)));
    if (active_.size() >= quorum_ && !ended_) with_quorum_ += seconds(now - now_);
    now_ = now;
}

void Checker::tell(const Line& line) {
    ++lines_;
    if (const auto* checkpoint = std::get_if<CheckpointLine>(&line)) {
        checkpoint_ = checkpoint->version;
        if (checkpoint_ && *checkpoint_ > version_) {
            violated(fmt::format("a checkpoint of version {}, but the run is at {}", checkpoint_->value(),
                                 version_.value()));
        }
        return;
    }
    if (const auto* resumed = std::get_if<ResumeLine>(&line)) return resume(*resumed);
    const RunEvent& event = std::get<RunEvent>(line);
    // Evaluations are made beside the run, and told when they are done.
    if (!std::holds_alternative<Evaluation>(event.body)) {
        pass_time(event.at);
        if (ended_) violated("an event after the end of the run");
    }
    std::visit([this](const auto& body) { check(body); }, event.body);
}

void Checker::resume(const ResumeLine& resume) {
    if (ended_) violated("the run is resumed after its end");
    // Up to here the file ends at the checkpoint: what came after it was moved away.
    if (resume.version && *resume.version != version_) {
        violated(fmt::format("resumed from version {}, but the events before it end at version {}",
                             resume.version->value(), version_.value()));
        version_ = *resume.version;
    }
    // Those who were here may be told of as leaving, or come again without that.
    before_resume_ = std::exchange(here_, {});
    active_.clear();
    now_ = Time{}; // whichever way the program counts: from the checkpoint on, or anew
}

void Checker::require_here(WorkerId worker, const char* what) {
    if (!here_.contains(worker)) violated(fmt::format("worker {} {}, but it is not here", worker.value(), what));
}

void Checker::check(const JoinEvent& join) {
    if (!here_.insert(join.worker).second) {
        violated(fmt::format("worker {} joins, but it is here already", join.worker.value()));
    }
    active_.insert(join.worker);
    before_resume_.erase(join.worker);
}

void Checker::check(const LeaveEvent& leave) {
    if (!here_.contains(leave.worker) && before_resume_.erase(leave.worker) > 0) return;
    require_here(leave.worker, "leaves");
    here_.erase(leave.worker);
    active_.erase(leave.worker);
}

void Checker::check(const SuspectEvent& suspect) {
    require_here(suspect.worker, "is suspect");
    if (active_.erase(suspect.worker) == 0) {
        violated(fmt::format("worker {} is suspect a second time", suspect.worker.value()));
    }
}

void Checker::check(const ReturnEvent& returned) {
    require_here(returned.worker, "returns");
    if (!active_.insert(returned.worker).second) {
        violated(fmt::format("worker {} returns, but it was not suspect", returned.worker.value()));
    }
}

void Checker::check(const ExcludeEvent& excluded) {
    require_here(excluded.worker, "is excluded");
}

void Checker::check(const PauseEvent& pause) {
    if (pause.active >= pause.needed) {
        violated(fmt::format("a pause with {} active workers of {} needed", pause.active, pause.needed));
    }
}

void Checker::check(const AssignEvent& assign) {
    ++pushed_;
    require_here(assign.worker, "is assigned a gradient");
    Account& account = accounts_[assign.worker];
    const Step expected = account.last ? account.last->next() : Step{};
    if (assign.step != expected) {
        violated(
            fmt::format("{} is assigned; step {} was next", gradient(assign.worker, assign.step), expected.value()));
    }
    if (assign.version != version_) {
        violated(fmt::format("{} is assigned version {}, but the run is at {}", gradient(assign.worker, assign.step),
                             assign.version.value(), version_.value()));
    }
    account.last = account.last ? std::max(*account.last, assign.step) : assign.step;
    if (account.held.contains(assign.step) || !account.open.emplace(assign.step, assign.version).second) {
        violated(gradient(assign.worker, assign.step) + " is assigned a second time");
    }
}

void Checker::check(const ArriveEvent& arrive) {
    Account& account = accounts_[arrive.worker];
    const auto open = account.open.find(arrive.step);
    if (open == account.open.end()) {
        return violated(gradient(arrive.worker, arrive.step) + " arrives, but it is not open");
    }
    if (open->second != arrive.base) {
        violated(fmt::format("{} arrives on version {}, but it was assigned {}", gradient(arrive.worker, arrive.step),
                             arrive.base.value(), open->second.value()));
    }
    if (arrive.fate == Fate::lost) violated(gradient(arrive.worker, arrive.step) + " arrives and is lost");
    if (arrive.fate == Fate::drop) ++dropped_;
    else account.held.insert(*open);
    account.open.erase(open);
}

void Checker::check(const LostEvent& lost) {
    if (accounts_[lost.worker].open.erase(lost.step) == 0) {
        return violated(gradient(lost.worker, lost.step) + " is lost, but it is not open");
    }
    ++lost_;
}

void Checker::check(const UpdateEvent& update) {
    ++updates_;
    if (active_.size() >= quorum_) ++updates_with_quorum_;
    if (update.version != version_) {
        violated(
            fmt::format("an update of version {}, but the run is at {}", update.version.value(), version_.value()));
    }
    version_ = update.version.next();
    if (update.applied.empty()) violated("an update that applies nothing");
    if (!positive(update.denominator) || !std::isfinite(update.loss) || !std::isfinite(update.learning_rate)) {
        violated(fmt::format("the update of version {} is not finite: denominator {}, loss {}, learning rate {}",
                             update.version.value(), update.denominator, update.loss, update.learning_rate));
    }
    for (std::size_t i = 0; i < update.applied.size(); ++i) {
        const AppliedGradient& applied = update.applied[i];
        const std::string name = gradient(applied.worker, applied.step);
        if (i > 0 && std::pair(update.applied[i - 1].worker, update.applied[i - 1].step) >=
                         std::pair(applied.worker, applied.step)) {
            violated(name + " is applied out of (worker, step) order");
        }
        if (!positive(applied.weight)) violated(fmt::format("{} is applied with weight {}", name, applied.weight));
        auto& held = accounts_[applied.worker].held;
        const auto found = held.find(applied.step);
        if (found == held.end()) {
            violated(name + " is applied, but it is not held: it never came, or was applied before");
            continue;
        }
        if (found->second != applied.base)
            violated(name + " is applied with another base version than it was assigned");
        held.erase(found);
        ++applied_;
    }
    published_[version_] = with_quorum_;
    if (published_.size() > kPublishedMax) published_.erase(published_.begin());
}

void Checker::check(const Evaluation& evaluation) {
    if (!std::isfinite(evaluation.loss)) {
        violated(fmt::format("the loss of version {} is not finite", evaluation.version.value()));
    }
    if (evaluation.version > version_) {
        violated(
            fmt::format("version {} is evaluated, but the run is at {}", evaluation.version.value(), version_.value()));
    }
    if (!evaluation.accuracy) return;
    accuracies_.push_back({seconds(evaluation.at), evaluation.version, *evaluation.accuracy});
    const auto published = published_.find(evaluation.version);
    reached_.push_back({published == published_.end() ? with_quorum_ : published->second, *evaluation.accuracy});
    published_.erase(published_.begin(), published_.lower_bound(evaluation.version));
}

void Checker::check(const EndEvent&) {
    ended_ = true;
    for (const auto& [worker, account] : accounts_) {
        for (const auto& [step, base] : account.open)
            violated(gradient(worker, step) + " is open at the end of the run");
    }
}

void Checker::finish(const Summary& summary) {
    if (!ended_) violated("the events have no end");
    const Totals counted = totals();
    if (!counted.adds_up()) violated("pushed is not applied + dropped + held + lost");
    const auto compare = [&](const char* name, std::uint64_t said, std::uint64_t ours) {
        if (said != ours) violated(fmt::format("summary.json has {} = {}, the events {}", name, said, ours));
    };
    compare("pushed", summary.pushed, counted.pushed);
    compare("applied", summary.applied, counted.applied);
    compare("dropped", summary.dropped, counted.dropped);
    compare("held", summary.held, counted.held);
    compare("lost", summary.lost, counted.lost);
    compare("updates", summary.updates, counted.updates);
    if (counted.updates != version_.value()) {
        violated(fmt::format("{} updates made version {}", counted.updates, version_.value()));
    }
    if (summary.pushed != summary.applied + summary.dropped + summary.held + summary.lost) {
        violated("summary.json: pushed is not applied + dropped + held + lost");
    }
}

Totals Checker::totals() const {
    Totals totals{.pushed = pushed_, .applied = applied_, .dropped = dropped_, .lost = lost_, .updates = updates_};
    for (const auto& [worker, account] : accounts_) {
        totals.held += account.held.size();
        totals.open += account.open.size();
    }
    return totals;
}

std::optional<double> Checker::reached(double accuracy) const {
    for (const Reached& reached : reached_) {
        if (reached.accuracy >= accuracy) return reached.seconds;
    }
    return std::nullopt;
}

} // namespace lategrad::chaos
