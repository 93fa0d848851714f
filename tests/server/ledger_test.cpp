#include "lategrad/server/ledger.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/testing/stored.h"

namespace lategrad {
namespace {

constexpr WorkerId kFirst{0};
constexpr WorkerId kSecond{1};
constexpr Version kOld{3};
constexpr Version kNew{4};

TEST(Ledger, NumbersEachWorkersStepsFromZero) {
    Ledger ledger;
    EXPECT_EQ(ledger.assign(kSecond, kOld), Step{0});
    EXPECT_EQ(ledger.assign(kSecond, kNew), Step{1});
    EXPECT_EQ(ledger.assign(kFirst, kNew), Step{0});
    EXPECT_EQ(ledger.totals().pushed, 3u);
    EXPECT_EQ(ledger.totals().open, 3u);
}

TEST(Ledger, KnowsAnOpenAssignmentByWorkerStepAndVersion) {
    Ledger ledger;
    EXPECT_FALSE(ledger.is_open(kSecond, Step{0}, kOld));
    ledger.assign(kSecond, kOld);
    ledger.assign(kSecond, kNew);
    EXPECT_TRUE(ledger.is_open(kSecond, Step{0}, kOld));
    EXPECT_TRUE(ledger.is_open(kSecond, Step{1}, kNew));
    EXPECT_FALSE(ledger.is_open(kSecond, Step{0}, kNew));
    EXPECT_FALSE(ledger.is_open(kSecond, Step{1}, kOld));
    EXPECT_FALSE(ledger.is_open(kSecond, Step{2}, kNew));
    EXPECT_FALSE(ledger.is_open(kFirst, Step{0}, kOld));
    EXPECT_FALSE(ledger.is_open(WorkerId{9}, Step{0}, kOld));
    ledger.lose_first(kSecond);
    EXPECT_FALSE(ledger.is_open(kSecond, Step{0}, kOld));
    EXPECT_TRUE(ledger.is_open(kSecond, Step{1}, kNew));
}

TEST(Ledger, CountsEachAssignmentUnderOneFate) {
    Ledger ledger;
    for (int i = 0; i < 5; ++i) ledger.assign(kFirst, kOld);
    ledger.arrive_first(kFirst, Fate::hold);
    ledger.arrive_first(kFirst, Fate::hold);
    ledger.arrive_first(kFirst, Fate::drop);
    EXPECT_EQ(ledger.lose_first(kFirst), Step{3});
    ledger.apply();
    ledger.count_stray();
    EXPECT_EQ(ledger.totals(),
              (LedgerTotals{.pushed = 5, .applied = 1, .dropped = 1, .held = 1, .lost = 1, .open = 1, .stray = 1}));
    EXPECT_TRUE(ledger.totals().adds_up());
    EXPECT_TRUE(ledger.has_open(kFirst));
    EXPECT_FALSE(ledger.has_open(kSecond));
}

/// What a server does with a ledger, drawn.
void count_at_random(Ledger& ledger, RandomStream& random, std::uint64_t times) {
    for (std::uint64_t i = 0; i < times; ++i) {
        const WorkerId worker{static_cast<std::uint32_t>(random.below(4))};
        switch (random.below(5)) {
        case 0:
        case 1: ledger.assign(worker, Version{random.below(3)}); break;
        case 2:
            if (ledger.has_open(worker)) ledger.arrive_first(worker, random.below(2) == 0 ? Fate::hold : Fate::drop);
            break;
        case 3:
            if (ledger.has_open(worker)) ledger.lose_first(worker);
            break;
        case 4:
            if (ledger.totals().held > 0) ledger.apply();
            else ledger.count_stray();
            break;
        }
    }
}

RC_GTEST_PROP(Ledger, CountsOnAfterItWasReadAgain, (std::uint64_t seed)) {
    RandomStream random(seed, Purpose::test);
    Ledger ledger, resumed;
    count_at_random(ledger, random, random.below(60));
    count_at_random(resumed, random, random.below(60)); // what it knew before does not matter
    const Stored stored = Stored::of(ledger);
    BufferPool none(0);
    read_stored(stored, none, resumed);
    RandomStream same = random;
    count_at_random(ledger, random, 60);
    count_at_random(resumed, same, 60);
    RC_ASSERT(ledger.totals() == resumed.totals());
    RC_ASSERT(Stored::of(ledger) == Stored::of(resumed));
    for (int i = 0; i < 20; ++i) {
        Ledger damaged_one;
        refusal([&] { read_stored(damaged(stored, random), none, damaged_one); });
    }
}

TEST(LedgerTotals, DoNotAddUpWithOneMissing) {
    EXPECT_FALSE((LedgerTotals{.pushed = 2, .applied = 1}.adds_up()));
    EXPECT_FALSE((LedgerTotals{.pushed = 1, .applied = 1, .held = 1}.adds_up()));
}

} // namespace
} // namespace lategrad
