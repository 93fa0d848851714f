#include "lategrad/server/data_plan.h"

#include <algorithm>
#include <utility>

#include "lategrad/core/error.h"

namespace lategrad {

DataPlan::DataPlan(std::vector<std::uint64_t> sizes, std::size_t workers, Duration reassign_after)
    : parts_(sizes.empty() ? workers : sizes.size()),
      here_(workers, false),
      adopted_by_(workers),
      reassign_after_(reassign_after) {
    CHECK(workers > 0);
    for (std::size_t i = 0; i < sizes.size(); ++i) parts_[i].size = sizes[i];
}

void DataPlan::begin(Time now) {
    for (std::uint32_t part = 0; part < parts_.size(); ++part) {
        if (parts_[part].at_home == 0 && !parts_[part].adopted) orphan(part, now);
    }
}

void DataPlan::joined(WorkerId worker, std::vector<Change>& changes) {
    if (here_[worker.value()]) return;
    here_[worker.value()] = true;
    const std::uint32_t part = home(worker);
    if (++parts_[part].at_home > 1) return;
    parts_[part].orphan_since = kNever;
    if (!std::exchange(parts_[part].adopted, false)) return;
    for (auto& adopted : adopted_by_) std::erase(adopted, part);
    changes.push_back({part, worker});
}

void DataPlan::left(WorkerId worker, Time now) {
    if (!here_[worker.value()]) return;
    here_[worker.value()] = false;
    const std::uint32_t part = home(worker);
    if (--parts_[part].at_home == 0) orphan(part, now);
    for (const std::uint32_t adopted : adopted_by_[worker.value()]) {
        parts_[adopted].adopted = false;
        orphan(adopted, now);
    }
    adopted_by_[worker.value()].clear();
}

void DataPlan::orphan(std::uint32_t part, Time since) {
    parts_[part].orphan_since = since;
    wake_at_ = std::min(wake_at_, later(since, reassign_after_));
}

void DataPlan::reassign(Time now, std::vector<Change>& changes) {
    if (now < wake_at_) return;
    wake_at_ = kNever;
    for (std::uint32_t part = 0; part < parts_.size(); ++part) {
        Part& orphan = parts_[part];
        if (orphan.at_home > 0 || orphan.adopted || orphan.orphan_since == kNever) continue;
        const Time due = later(orphan.orphan_since, reassign_after_);
        if (now < due) {
            wake_at_ = std::min(wake_at_, due);
            continue;
        }
        std::uint32_t least = 0;
        bool found = false;
        for (std::uint32_t i = 0; i < here_.size(); ++i) {
            if (here_[i] && (!found || adopted_by_[i].size() < adopted_by_[least].size())) {
                least = i;
                found = true;
            }
        }
        if (!found) { // nobody lives; whoever comes is asked then
            wake_at_ = std::min(wake_at_, later(now, reassign_after_));
            continue;
        }
        orphan.adopted = true;
        adopted_by_[least].push_back(part);
        changes.push_back({part, WorkerId{least}});
    }
}

DataPosition DataPlan::take(WorkerId worker, std::uint32_t examples) {
    std::uint32_t part = home(worker);
    // Advanced: as a share of the part, so that all of them are in the same epoch.
    const auto before = [&](std::uint32_t a, std::uint32_t b) {
        return static_cast<double>(parts_[a].position) /
                   static_cast<double>(std::max<std::uint64_t>(parts_[a].size, 1)) <
               static_cast<double>(parts_[b].position) /
                   static_cast<double>(std::max<std::uint64_t>(parts_[b].size, 1));
    };
    for (const std::uint32_t adopted : adopted_by_[worker.value()]) {
        if (before(adopted, part)) part = adopted;
    }
    const DataPosition begin{.part = part, .position = parts_[part].position};
    parts_[part].position += examples;
    return begin;
}

bool DataPlan::fits_together() const {
    if (adopted_by_.size() != here_.size()) return false;
    std::vector<std::uint32_t> at_home(parts_.size()), adopted(parts_.size());
    for (std::uint32_t i = 0; i < here_.size(); ++i) {
        if (here_[i]) ++at_home[home(WorkerId{i})];
        else if (!adopted_by_[i].empty()) return false;
        for (const std::uint32_t part : adopted_by_[i]) {
            if (part >= parts_.size()) return false;
            ++adopted[part];
        }
    }
    for (std::size_t i = 0; i < parts_.size(); ++i) {
        if (parts_[i].at_home != at_home[i] || adopted[i] != (parts_[i].adopted ? 1 : 0)) return false;
    }
    return true;
}

std::optional<double> DataPlan::coverage() const {
    std::uint64_t drawn = 0, all = 0;
    for (const Part& part : parts_) {
        drawn += std::min(part.position, part.size);
        all += part.size;
    }
    if (all == 0) return std::nullopt;
    return static_cast<double>(drawn) / static_cast<double>(all);
}

} // namespace lategrad
