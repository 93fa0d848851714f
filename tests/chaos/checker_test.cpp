#include "tests/chaos/checker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lategrad/core/error.h"

namespace lategrad::chaos {
namespace {

using ::testing::HasSubstr;

constexpr WorkerId kA{0}, kB{1};

RunEvent at(double when, RunEventBody body) {
    return {Time{from_seconds(when)}, std::move(body)};
}
RunEvent assign(double when, WorkerId worker, std::uint64_t step, std::uint64_t version) {
    return at(when, AssignEvent{worker, Step{step}, Version{version}, {}});
}
RunEvent arrive(double when, WorkerId worker, std::uint64_t step, std::uint64_t base, Fate fate = Fate::hold) {
    return at(when, ArriveEvent{worker, Step{step}, Version{base}, fate, Reason::fresh, 0.5, 0.01});
}
AppliedGradient applied(WorkerId worker, std::uint64_t step, std::uint64_t base) {
    return {.worker = worker, .step = Step{step}, .base = Version{base}, .examples = 32, .weight = 1};
}
RunEvent update(double when, std::uint64_t version, std::vector<AppliedGradient> gradients) {
    return at(when, UpdateEvent{.version = Version{version},
                                .applied = std::move(gradients),
                                .denominator = 64,
                                .learning_rate = 0.1,
                                .loss = 0.5});
}

/// A whole run of two workers: two updates, B's second gradient dropped, its third one lost, A's third one held.
std::vector<RunEvent> good() {
    return {at(0, JoinEvent{kA, 32}),
            at(0, JoinEvent{kB, 32}),
            assign(0, kA, 0, 0),
            assign(0, kB, 0, 0),
            arrive(1, kA, 0, 0),
            arrive(1, kB, 0, 0),
            update(1, 0, {applied(kA, 0, 0), applied(kB, 0, 0)}),
            assign(1, kA, 1, 1),
            assign(1, kB, 1, 1),
            arrive(2, kB, 1, 1, Fate::drop),
            assign(2, kB, 2, 1),
            at(3, SuspectEvent{kB}),
            at(4, ReturnEvent{kB}),
            arrive(4, kA, 1, 1),
            update(4, 1, {applied(kA, 1, 1)}),
            assign(4, kA, 2, 2),
            at(5, LostEvent{kB, Step{2}, Reason::worker_gone}),
            at(5, LeaveEvent{kB}),
            arrive(6, kA, 2, 2),
            at(7, EndEvent{Outcome::interrupted}),
            at(8, Evaluation{.version = Version{2}, .at = Time{from_seconds(4)}, .loss = 0.4, .accuracy = 0.8})};
}

Summary good_summary() {
    return {.updates = 2, .pushed = 6, .applied = 3, .dropped = 1, .held = 1, .lost = 1};
}

std::string complaints(const std::vector<RunEvent>& events, const Summary* summary = nullptr) {
    Checker checker(2);
    for (const RunEvent& event : events) checker.tell(event);
    if (summary) checker.finish(*summary);
    std::string text;
    for (const Violation& violation : checker.violations()) {
        text += std::to_string(violation.line) + ": " + violation.what + "\n";
    }
    return text;
}

/// `good` with the event of this index replaced.
std::vector<RunEvent> with(std::size_t index, RunEvent event) {
    auto events = good();
    events[index] = std::move(event);
    return events;
}
/// With one more before it.
std::vector<RunEvent> before(std::size_t index, RunEvent event) {
    auto events = good();
    events.insert(events.begin() + static_cast<std::ptrdiff_t>(index), std::move(event));
    return events;
}
std::vector<RunEvent> without(std::size_t index) {
    auto events = good();
    events.erase(events.begin() + static_cast<std::ptrdiff_t>(index));
    return events;
}

TEST(Checker, HasNothingAgainstAGoodRun) {
    const Summary summary = good_summary();
    EXPECT_EQ(complaints(good(), &summary), "");
}

TEST(Checker, Counts) {
    Checker checker(2);
    for (const RunEvent& event : good()) checker.tell(event);
    const Totals totals = checker.totals();
    EXPECT_EQ(totals.pushed, 6u);
    EXPECT_EQ(totals.applied, 3u);
    EXPECT_EQ(totals.held, 1u);
    EXPECT_EQ(totals.open, 0u);
    EXPECT_TRUE(totals.adds_up());
    EXPECT_DOUBLE_EQ(checker.seconds_with_quorum(), 4); // all of the first 5 s but the fourth
    EXPECT_EQ(checker.updates_with_quorum(), 2u);
    EXPECT_EQ(checker.reached(0.8), 3.0); // version 2 was published with the second update
    EXPECT_EQ(checker.reached(0.81), std::nullopt);
}

TEST(Checker, SeesAVersionThatGoesBackOrJumps) {
    EXPECT_THAT(complaints(with(14, update(4, 0, {applied(kA, 1, 1)}))),
                HasSubstr("15: an update of version 0, but the run is at 1"));
    EXPECT_THAT(complaints(with(14, update(4, 2, {applied(kA, 1, 1)}))), HasSubstr("an update of version 2"));
    EXPECT_THAT(complaints(with(7, assign(1, kA, 1, 0))), HasSubstr("is assigned version 0, but the run is at 1"));
}

TEST(Checker, SeesAGradientThatIsAppliedTwice) {
    EXPECT_THAT(complaints(with(14, update(4, 1, {applied(kA, 0, 0), applied(kA, 1, 1)}))),
                HasSubstr("gradient (worker 0, step 0) is applied, but it is not held"));
    EXPECT_THAT(complaints(with(14, update(4, 1, {applied(kA, 1, 1), applied(kA, 1, 1)}))), HasSubstr("not held"));
    EXPECT_THAT(complaints(with(13, arrive(4, kA, 0, 0))), HasSubstr("(worker 0, step 0) arrives, but it is not open"));
}

TEST(Checker, SeesADroppedOrLostGradientThatIsAppliedNevertheless) {
    EXPECT_THAT(complaints(with(14, update(4, 1, {applied(kA, 1, 1), applied(kB, 1, 1)}))),
                HasSubstr("(worker 1, step 1) is applied, but it is not held"));
    EXPECT_THAT(complaints(before(18, arrive(5, kB, 2, 1))),
                HasSubstr("(worker 1, step 2) arrives, but it is not open"));
    EXPECT_THAT(complaints(before(17, at(5, LostEvent{kB, Step{2}, Reason::worker_gone}))),
                HasSubstr("(worker 1, step 2) is lost, but it is not open"));
}

TEST(Checker, SeesAnAssignmentWithoutAnEnd) {
    EXPECT_THAT(complaints(without(16)), HasSubstr("(worker 1, step 2) is open at the end of the run"));
    EXPECT_THAT(complaints(without(18)), HasSubstr("(worker 0, step 2) is open at the end of the run"));
}

TEST(Checker, SeesStepsThatAreGivenOutTwiceOrLeftOut) {
    EXPECT_THAT(complaints(with(10, assign(2, kB, 1, 1))), HasSubstr("step 2 was next"));
    EXPECT_THAT(complaints(with(10, assign(2, kB, 3, 1))), HasSubstr("step 2 was next"));
    EXPECT_THAT(complaints(before(8, assign(1, kA, 1, 1))), HasSubstr("(worker 0, step 1) is assigned a second time"));
}

TEST(Checker, SeesBaseVersionsThatDiffer) {
    EXPECT_THAT(complaints(with(13, arrive(4, kA, 1, 0))), HasSubstr("arrives on version 0, but it was assigned 1"));
    EXPECT_THAT(complaints(with(14, update(4, 1, {applied(kA, 1, 0)}))), HasSubstr("another base version"));
}

TEST(Checker, SeesWhatIsNotFinite) {
    auto events = good();
    std::get<UpdateEvent>(events[6].body).loss = std::nan("");
    EXPECT_THAT(complaints(events), HasSubstr("7: the update of version 0 is not finite"));
    events = good();
    std::get<UpdateEvent>(events[6].body).applied[0].weight = std::numeric_limits<double>::infinity();
    EXPECT_THAT(complaints(events), HasSubstr("is applied with weight inf"));
    events = good();
    std::get<Evaluation>(events.back().body).loss = std::nan("");
    EXPECT_THAT(complaints(events), HasSubstr("the loss of version 2 is not finite"));
}

TEST(Checker, SeesTheWrongOrderOfASum) {
    EXPECT_THAT(complaints(with(6, update(1, 0, {applied(kB, 0, 0), applied(kA, 0, 0)}))),
                HasSubstr("out of (worker, step) order"));
}

TEST(Checker, SeesWorkersThatComeAndGoTwice) {
    EXPECT_THAT(complaints(with(1, at(0, JoinEvent{kA, 32}))), HasSubstr("worker 0 joins, but it is here already"));
    EXPECT_THAT(complaints(before(18, at(5, LeaveEvent{kB}))), HasSubstr("worker 1 leaves, but it is not here"));
    EXPECT_THAT(complaints(before(12, at(3, SuspectEvent{kB}))), HasSubstr("suspect a second time"));
    EXPECT_THAT(complaints(without(11)), HasSubstr("worker 1 returns, but it was not suspect"));
    EXPECT_THAT(complaints(before(18, assign(5, kB, 3, 2))), HasSubstr("assigned a gradient, but it is not here"));
}

TEST(Checker, SeesTimeThatGoesBack) {
    EXPECT_THAT(complaints(with(13, arrive(3.5, kA, 1, 1))), HasSubstr("time goes back from 4.000000 s to 3.500000 s"));
}

TEST(Checker, SeesWhatComesAfterTheEnd) {
    EXPECT_THAT(complaints(before(20, at(7, LeaveEvent{kA}))), HasSubstr("after the end"));
}

TEST(Checker, SeesASummaryThatSaysSomethingElse) {
    for (std::uint64_t Summary::*field :
         {&Summary::pushed, &Summary::applied, &Summary::dropped, &Summary::held, &Summary::lost, &Summary::updates}) {
        Summary summary = good_summary();
        ++(summary.*field);
        EXPECT_THAT(complaints(good(), &summary), HasSubstr("summary.json"));
    }
    auto events = good();
    events.erase(events.end() - 2);
    const Summary summary = good_summary();
    EXPECT_THAT(complaints(events, &summary), HasSubstr("the events have no end"));
}

TEST(Checker, LetsARunGoBackToTheCheckpointItIsResumedFrom) {
    Checker checker(1);
    for (const RunEvent& event : {at(0, JoinEvent{kA, 32}), assign(0, kA, 0, 0), arrive(1, kA, 0, 0),
                                  update(1, 0, {applied(kA, 0, 0)}), assign(1, kA, 1, 1)}) {
        checker.tell(event);
    }
    checker.tell(CheckpointLine{Version{1}});
    Checker other = checker;
    checker.tell(ResumeLine{Version{1}});
    checker.tell(at(0, LostEvent{kA, Step{1}, Reason::rolled_back}));
    checker.tell(at(0, LeaveEvent{kA}));
    checker.tell(at(0, JoinEvent{kA, 32}));
    checker.tell(assign(0, kA, 2, 1));
    EXPECT_TRUE(checker.violations().empty());
    other.tell(ResumeLine{Version{0}});
    ASSERT_EQ(other.violations().size(), 1u);
    EXPECT_THAT(other.violations()[0].what,
                HasSubstr("resumed from version 0, but the events before it end at version 1"));
}

TEST(Checker, ReadsLines) {
    EXPECT_EQ(
        std::get<ResumeLine>(parse_line(R"({"type":"resume","seconds":3.0,"incarnation":1,"version":7})")).version,
        Version{7});
    EXPECT_EQ(std::get<CheckpointLine>(parse_line(R"({"type":"checkpoint","version":7})")).version, Version{7});
    EXPECT_TRUE(std::holds_alternative<RunEvent>(parse_line(R"({"type":"leave","seconds":1.5,"worker":3})")));
    EXPECT_THROW(parse_line(R"({"type":"leave","seconds":1.5,"wor)"), InputError);
    EXPECT_THROW(parse_line(R"({"type":"resume","seconds":1.5,"wor)"), InputError);
    EXPECT_THROW(parse_line(""), InputError);
}

} // namespace
} // namespace lategrad::chaos
