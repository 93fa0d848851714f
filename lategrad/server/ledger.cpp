#include "lategrad/server/ledger.h"

#include "lategrad/core/error.h"

namespace lategrad {

Step Ledger::assign(WorkerId worker) {
    if (worker.value() >= accounts_.size()) accounts_.resize(worker.value() + 1);
    Account& account = accounts_[worker.value()];
    const Step step = account.next;
    account.next = step.next();
    ++totals_.pushed;
    ++totals_.open;
    return step;
}

bool Ledger::is_open(WorkerId worker, Step step) const {
    if (worker.value() >= accounts_.size()) return false;
    const Account& account = accounts_[worker.value()];
    return account.first <= step && step < account.next;
}

bool Ledger::has_open(WorkerId worker) const {
    return worker.value() < accounts_.size() && accounts_[worker.value()].first < accounts_[worker.value()].next;
}

Step Ledger::lose_first(WorkerId worker) {
    CHECK(has_open(worker));
    Account& account = accounts_[worker.value()];
    const Step step = account.first;
    account.first = step.next();
    --totals_.open;
    ++totals_.lost;
    return step;
}

void Ledger::arrive_first(WorkerId worker, Fate fate) {
    CHECK(has_open(worker));
    Account& account = accounts_[worker.value()];
    account.first = account.first.next();
    --totals_.open;
    if (fate == Fate::drop) ++totals_.dropped;
    else ++totals_.held;
}

void Ledger::apply() {
    CHECK(totals_.held > 0);
    --totals_.held;
    ++totals_.applied;
}

} // namespace lategrad
