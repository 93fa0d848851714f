#include "lategrad/server/ledger.h"

#include "lategrad/core/archive.h"
#include "lategrad/core/error.h"

namespace lategrad {

std::map<std::string, std::uint64_t> LedgerTotals::by_name() const {
    return {{"pushed", pushed}, {"applied", applied}, {"dropped", dropped}, {"held", held},
            {"lost", lost},     {"open", open},       {"stray", stray}};
}

Step Ledger::assign(WorkerId worker, Version base) {
    if (worker.value() >= accounts_.size()) accounts_.resize(worker.value() + 1);
    Account& account = accounts_[worker.value()];
    const Step step{account.first.value() + account.open};
    if (account.open++ == 0) account.base = base;
    else account.others.push_back(base);
    ++totals_.pushed;
    ++totals_.open;
    return step;
}

bool Ledger::is_open(WorkerId worker, Step step, Version base) const {
    if (worker.value() >= accounts_.size()) return false;
    const Account& account = accounts_[worker.value()];
    if (step < account.first || step - account.first >= account.open) return false;
    return step == account.first ? account.base == base : account.others[step - account.first - 1] == base;
}

bool Ledger::has_open(WorkerId worker) const {
    return worker.value() < accounts_.size() && accounts_[worker.value()].open > 0;
}

void Ledger::close_first(WorkerId worker) {
    CHECK(has_open(worker));
    Account& account = accounts_[worker.value()];
    account.first = account.first.next();
    if (--account.open > 0) {
        account.base = account.others.front();
        account.others.erase(account.others.begin());
    }
    --totals_.open;
}

Step Ledger::lose_first(WorkerId worker) {
    close_first(worker);
    ++totals_.lost;
    return Step{accounts_[worker.value()].first.value() - 1};
}

void Ledger::arrive_first(WorkerId worker, Fate fate) {
    close_first(worker);
    if (fate == Fate::drop) ++totals_.dropped;
    else ++totals_.held;
}

void Ledger::apply() {
    CHECK(totals_.held > 0);
    --totals_.held;
    ++totals_.applied;
}

void Ledger::persist(Archive& archive) {
    archive.section("ledger");
    archive(totals_, accounts_);
    std::uint64_t open = 0;
    for (const Account& account : accounts_) {
        const std::uint64_t others = account.others.size();
        archive.require(account.open == (account.open > 0 ? others + 1 : others), "an account without its versions");
        archive.require_count(account.first.value(), "a step that no worker reaches");
        open += account.open;
    }
    archive.require(totals_.adds_up() && totals_.open == open, "a ledger that does not add up");
}

} // namespace lategrad
