#include "lategrad/telemetry/event_json.h"

#include <bit>
#include <cmath>
#include <limits>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include "tests/files/temp_dir.h"

namespace lategrad {

static auto fields(const JoinEvent& e) {
    return std::tie(e.worker, e.examples, e.from);
}
static auto fields(const LeaveEvent& e) {
    return std::tie(e.worker);
}
static auto fields(const AssignEvent& e) {
    return std::tie(e.worker, e.step, e.version, e.data);
}
static auto fields(const ArriveEvent& e) {
    return std::tie(e.worker, e.step, e.base, e.fate, e.reason, e.loss, e.compute_seconds);
}
static auto fields(const LostEvent& e) {
    return std::tie(e.worker, e.step, e.reason);
}
static auto fields(const UpdateEvent& e) {
    return std::tie(e.version, e.applied, e.denominator, e.learning_rate, e.loss, e.examples_applied, e.bytes_received,
                    e.bytes_sent);
}
static auto fields(const Evaluation& e) {
    return std::tie(e.version, e.at, e.examples_applied, e.loss, e.accuracy);
}
static auto fields(const EndEvent& e) {
    return std::tie(e.outcome);
}
static auto fields(const SuspectEvent& e) {
    return std::tie(e.worker, e.overdue);
}
static auto fields(const ReturnEvent& e) {
    return std::tie(e.worker);
}
static auto fields(const ExcludeEvent& e) {
    return std::tie(e.worker, e.reason);
}
static auto fields(const PauseEvent& e) {
    return std::tie(e.active, e.needed);
}
static auto fields(const ContinueEvent& e) {
    return std::tie(e.active);
}
static auto fields(const ResumeEvent& e) {
    return std::tie(e.incarnation, e.version);
}
static auto fields(const PartEvent& e) {
    return std::tie(e.part, e.worker);
}

static bool operator==(const RunEvent& a, const RunEvent& b) {
    return a.at == b.at && a.body.index() == b.body.index() &&
           std::visit(
               [&b](const auto& body) {
                   return fields(body) == fields(std::get<std::decay_t<decltype(body)>>(b.body));
               },
               a.body);
}

namespace {

/// All 64 bits are drawn from.
std::uint64_t any_bits() {
    return *rc::gen::resize(rc::kNominalSize, rc::gen::arbitrary<std::uint64_t>());
}

double any_finite() {
    const auto value = std::bit_cast<double>(any_bits());
    return std::isfinite(value) ? value : 0.1;
}

Time any_time() {
    return Time{std::chrono::microseconds(*rc::gen::inRange<std::int64_t>(0, 100'000'000'000'000))};
}

template <class Enum>
Enum any_of(Enum last) {
    return static_cast<Enum>(*rc::gen::inRange(0, static_cast<int>(last) + 1));
}

WorkerId any_worker() {
    return WorkerId{static_cast<std::uint32_t>(any_bits())};
}

AppliedGradient any_applied(Version version) {
    return {any_worker(), Step{any_bits()}, Version{*rc::gen::inRange<std::uint64_t>(0, version.value() + 1)},
            static_cast<std::uint32_t>(any_bits()), any_finite()};
}

RunEventBody any_body() {
    const Version version{any_bits() >> 1};
    switch (*rc::gen::inRange(0, 15)) {
    case 0:
        return JoinEvent{any_worker(), static_cast<std::uint32_t>(any_bits()),
                         *rc::gen::element<std::string>("", "node7:4711", "a \"name\"\\\n\x1b")};
    case 1: return LeaveEvent{any_worker()};
    case 2: {
        AssignEvent assign{any_worker(), Step{any_bits()}, version, {}};
        if (*rc::gen::arbitrary<bool>()) assign.data = DataPosition{static_cast<std::uint32_t>(any_bits()), any_bits()};
        return assign;
    }
    case 3:
        return ArriveEvent{any_worker(),        Step{any_bits()}, version,     any_of(Fate::lost),
                           any_of(kLastReason), any_finite(),     any_finite()};
    case 4: return LostEvent{any_worker(), Step{any_bits()}, any_of(kLastReason)};
    case 5: {
        UpdateEvent update{version, {}, any_finite(), any_finite(), any_finite(), any_bits(), any_bits(), any_bits()};
        for (int i = *rc::gen::inRange(0, 4); i > 0; --i) update.applied.push_back(any_applied(version));
        return update;
    }
    case 6:
        return Evaluation{version, any_time(), any_bits(), any_finite(),
                          *rc::gen::arbitrary<bool>() ? std::optional(any_finite()) : std::nullopt};
    case 7: return SuspectEvent{any_worker(), *rc::gen::arbitrary<bool>()};
    case 8: return ReturnEvent{any_worker()};
    case 9: return ExcludeEvent{any_worker(), any_of(kLastReason)};
    case 10: return PauseEvent{any_bits(), any_bits()};
    case 11: return ContinueEvent{any_bits()};
    case 13: return ResumeEvent{Incarnation{static_cast<std::uint32_t>(any_bits())}, version};
    case 12: return PartEvent{static_cast<std::uint32_t>(any_bits()), any_worker()};
    default: return EndEvent{any_of(Outcome::diverged)};
    }
}

RC_GTEST_PROP(EventJson, every_event_reads_back_to_the_same, ()) {
    const RunEvent event{any_time(), any_body()};
    const std::string line = to_json_line(event);
    RC_LOG(line);
    RC_ASSERT(parse_json_line(line) == event);
    RC_ASSERT(line.find('\n') == std::string::npos);
}

TEST(EventJson, lines_by_example) {
    const Time t = Time{} + std::chrono::nanoseconds(1'000'250'999);
    const WorkerId w{3};
    EXPECT_EQ(to_json_line({t, JoinEvent{w, 32}}), R"({"type":"join","seconds":1.000250,"worker":3,"examples":32})");
    EXPECT_EQ(to_json_line({t, JoinEvent{w, 32, "node7:4711"}}),
              R"({"type":"join","seconds":1.000250,"worker":3,"examples":32,"from":"node7:4711"})");
    EXPECT_EQ(to_json_line({t, LeaveEvent{w}}), R"({"type":"leave","seconds":1.000250,"worker":3})");
    EXPECT_EQ(to_json_line({t, AssignEvent{w, Step{7}, Version{12}}}),
              R"({"type":"assign","seconds":1.000250,"worker":3,"step":7,"version":12})");
    EXPECT_EQ(to_json_line({t, ArriveEvent{w, Step{7}, Version{12}, Fate::hold, Reason::late, 2.25, 0.125}}),
              R"({"type":"arrive","seconds":1.000250,"worker":3,"step":7,"base_version":12,"fate":"hold",)"
              R"("reason":"late","loss":2.25,"compute_seconds":0.125})");
    EXPECT_EQ(to_json_line({t, LostEvent{w, Step{7}, Reason::worker_gone}}),
              R"({"type":"lost","seconds":1.000250,"worker":3,"step":7,"reason":"worker gone"})");
    EXPECT_EQ(to_json_line({t, Evaluation{Version{12}, Time{} + std::chrono::seconds(1), 640, 0.5, 0.875}}),
              R"({"type":"evaluate","seconds":1.000250,"version":12,"published":1.000000,"examples_applied":640,)"
              R"("accuracy":0.875,"loss":0.5})");
    EXPECT_EQ(to_json_line({t, AssignEvent{w, Step{7}, Version{12}, DataPosition{.part = 5, .position = 640}}}),
              R"({"type":"assign","seconds":1.000250,"worker":3,"step":7,"version":12,"part":5,"position":640})");
    EXPECT_EQ(to_json_line({t, SuspectEvent{w, false}}),
              R"({"type":"suspect","seconds":1.000250,"worker":3,"reason":"silent"})");
    EXPECT_EQ(to_json_line({t, SuspectEvent{w, true}}),
              R"({"type":"suspect","seconds":1.000250,"worker":3,"reason":"overdue"})");
    EXPECT_EQ(to_json_line({t, ReturnEvent{w}}), R"({"type":"return","seconds":1.000250,"worker":3})");
    EXPECT_EQ(to_json_line({t, ExcludeEvent{w, Reason::too_large}}),
              R"({"type":"exclude","seconds":1.000250,"worker":3,"reason":"too large"})");
    EXPECT_EQ(to_json_line({t, PauseEvent{2, 3}}), R"({"type":"pause","seconds":1.000250,"active":2,"needed":3})");
    EXPECT_EQ(to_json_line({t, ContinueEvent{3}}), R"({"type":"continue","seconds":1.000250,"active":3})");
    EXPECT_EQ(to_json_line({t, PartEvent{5, w}}), R"({"type":"part","seconds":1.000250,"part":5,"worker":3})");
    EXPECT_EQ(to_json_line({t, ResumeEvent{Incarnation{2}, Version{40}}}),
              R"({"type":"resume","seconds":1.000250,"incarnation":2,"version":40})");
    EXPECT_EQ(to_json_line({t, EndEvent{Outcome::time_limit}}),
              R"({"type":"end","seconds":1.000250,"outcome":"time limit"})");
}

TEST(EventJson, an_update_lists_what_it_applied_and_what_was_dropped_before_it) {
    const UpdateEvent update{
        .version = Version{12},
        .applied = {{WorkerId{0}, Step{4}, Version{12}, 32, 1}, {WorkerId{3}, Step{2}, Version{10}, 31, 1.0 / 3}},
        .denominator = 64,
        .learning_rate = 0.05,
        .loss = 0.75,
        .examples_applied = 768,
        .bytes_received = 1000,
        .bytes_sent = 2000};
    const DroppedGradient dropped{WorkerId{1}, Step{9}, Version{8}, Reason::too_stale};
    EXPECT_EQ(to_json_line({Time{} + std::chrono::seconds(2), update}, {&dropped, 1}),
              R"({"type":"update","version":12,"seconds":2.000000,"applied":[)"
              R"({"worker":0,"step":4,"base_version":12,"weight":1,"examples":32},)"
              R"({"worker":3,"step":2,"base_version":10,"weight":0.3333333333333333,"examples":31}],)"
              R"("denominator":64,"learning_rate":0.05,"loss":0.75,"examples_applied":768,)"
              R"("bytes_received":1000,"bytes_sent":2000,)"
              R"("dropped":[{"worker":1,"step":9,"base_version":8,"reason":"too stale"}]})");
}

TEST(EventJson, zero_keeps_its_sign) {
    const RunEvent event{Time{}, ArriveEvent{WorkerId{0}, Step{0}, Version{0}, Fate::apply, Reason::fresh, -0.0, 0.0}};
    const RunEvent again = parse_json_line(to_json_line(event));
    EXPECT_TRUE(std::signbit(std::get<ArriveEvent>(again.body).loss));
    EXPECT_FALSE(std::signbit(std::get<ArriveEvent>(again.body).compute_seconds));
}

TEST(EventJson, numbers_that_json_cannot_say_are_null) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    const std::string line = to_json_line(
        {Time{}, ArriveEvent{WorkerId{0}, Step{0}, Version{0}, Fate::drop, Reason::not_finite, kInfinity, 0.1}});
    EXPECT_TRUE(nlohmann::json::parse(line)["loss"].is_null()) << line;
    EXPECT_TRUE(std::isnan(std::get<ArriveEvent>(parse_json_line(line).body).loss));
}

TEST(EventJson, says_what_is_wrong_with_a_line) {
    const auto complaint = [](std::string_view line) { return message_of([line] { parse_json_line(line); }); };
    EXPECT_EQ(complaint(""), "not JSON at byte 1");
    EXPECT_EQ(complaint(R"({"type":"leave","seconds":1.0,"wor)"), "not JSON at byte 35");
    EXPECT_EQ(complaint("[1]"), "not a JSON object");
    EXPECT_EQ(complaint(R"({"seconds":1})"), "field \"type\" is missing");
    EXPECT_EQ(complaint(R"({"type":"nap","seconds":1})"),
              "type \"nap\" is none of join, leave, assign, arrive, lost, update, evaluate, end, suspect, return, "
              "exclude, pause, continue, part, resume");
    EXPECT_EQ(complaint(R"({"type":"leave","seconds":-1,"worker":0})"), "field \"seconds\" is not a time in seconds");
    EXPECT_EQ(complaint(R"({"type":"leave","seconds":1,"worker":-3})"), "field \"worker\" is not a whole number");
    EXPECT_EQ(complaint(R"({"type":"leave","seconds":1,"worker":4294967296})"),
              "field \"worker\" is too large: 4294967296");
    EXPECT_EQ(complaint(R"({"type":"lost","seconds":1,"worker":0,"step":0,"reason":"bored"})"),
              "field \"reason\" is \"bored\", which this program does not know");
    EXPECT_EQ(complaint(R"({"type":"evaluate","seconds":1e999})"), "not JSON that this program can read");
    EXPECT_EQ(complaint(R"({"type":"update","seconds":1,"version":3,"denominator":1,"learning_rate":1,"loss":"low"})"),
              "field \"loss\" is not a number");
    EXPECT_EQ(complaint(R"({"type":"update","seconds":1,"version":3,"applied":[{"worker":0,"step":0,"base_version":4,)"
                        R"("weight":1,"examples":1}],"denominator":1,"learning_rate":1,"loss":1,"examples_applied":1,)"
                        R"("bytes_received":1,"bytes_sent":1,"dropped":[]})"),
              "field \"applied\" has a gradient on a version that was not there yet");
}

} // namespace
} // namespace lategrad
