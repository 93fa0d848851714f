#include "lategrad/telemetry/trace.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/files/temp_dir.h"
#include "tests/telemetry/example_run.h"
#include "tests/telemetry/text_of.h"

namespace lategrad {
namespace {

nlohmann::json trace_of(const std::vector<RunEvent>& events, std::size_t marks_max = kTraceMarksMax) {
    const TempDir dir;
    TraceBuilder trace(marks_max);
    for (const RunEvent& event : events) trace.tell(event);
    trace.write(dir / "trace.json");
    return nlohmann::json::parse(text_of(dir / "trace.json"));
}

/// The marks of one kind: "X" slices, "i" updates, "M" the tracks' names.
std::vector<nlohmann::json> marks(const nlohmann::json& trace, const std::string& kind) {
    std::vector<nlohmann::json> found;
    for (const auto& mark : trace["traceEvents"]) {
        if (mark["ph"] == kind) found.push_back(mark);
    }
    return found;
}

TEST(Trace, has_a_slice_per_gradient) {
    const auto slices = marks(trace_of(example_run()), "X");
    ASSERT_EQ(slices.size(), 5u); // four arrived, one was lost
    const auto& late = slices[1];
    EXPECT_EQ(late["name"], "step 0 on v0");
    EXPECT_EQ(late["tid"], 2); // worker 1
    EXPECT_EQ(late["ts"], 0);
    EXPECT_EQ(late["dur"], 1.5e6);
    EXPECT_EQ(late["args"], nlohmann::json::parse(R"({"base_version": 0, "fate": "hold", "reason": "late",
                                                      "loss": 2.5, "compute_seconds": 1.4})"));
    const auto& lost = slices[4];
    EXPECT_EQ(lost["name"], "step 2 on v2");
    EXPECT_EQ(lost["ts"], 2e6);
    EXPECT_EQ(lost["dur"], 1e6);
    EXPECT_EQ(lost["args"]["reason"], "run ended");
}

TEST(Trace, has_a_mark_per_update_on_the_servers_track) {
    const auto updates = marks(trace_of(example_run()), "i");
    ASSERT_EQ(updates.size(), 2u);
    EXPECT_EQ(updates[1]["tid"], 0);
    EXPECT_EQ(updates[1]["ts"], 2e6);
    EXPECT_EQ(updates[1]["name"], "v1 to v2");
    EXPECT_EQ(updates[1]["args"], nlohmann::json::parse(R"({"applied": 2, "late": 1, "loss": 2.0})"));
}

TEST(Trace, names_its_tracks) {
    std::vector<std::string> names;
    for (const auto& mark : marks(trace_of(example_run()), "M")) {
        if (mark["name"] == "thread_name") names.push_back(mark["args"]["name"]);
    }
    EXPECT_EQ(names, (std::vector<std::string>{"server", "worker 0", "worker 1"}));
}

TEST(Trace, a_cancelled_gradient_ends_where_the_next_one_begins) {
    const WorkerId w{0};
    const auto slices =
        marks(trace_of({{at(0), AssignEvent{w, Step{0}, Version{0}}},
                        {at(1), AssignEvent{w, Step{1}, Version{1}}},
                        {at(3), LostEvent{w, Step{0}, Reason::cancelled}},
                        {at(3), ArriveEvent{w, Step{1}, Version{1}, Fate::apply, Reason::fresh, 1, 1}}}),
              "X");
    ASSERT_EQ(slices.size(), 2u);
    EXPECT_EQ(slices[0]["dur"], 1e6);
    EXPECT_EQ(slices[1]["dur"], 2e6);
}

TEST(Trace, says_what_it_leaves_out) {
    const auto whole = trace_of(example_run());
    EXPECT_EQ(whole["metadata"]["marks"], 7);
    EXPECT_EQ(whole["metadata"]["marks_left_out"], 0);
    const auto cut = trace_of(example_run(), 3);
    EXPECT_EQ(cut["metadata"]["marks"], 3);
    EXPECT_EQ(cut["metadata"]["marks_left_out"], 4);
    EXPECT_EQ(marks(cut, "X").size() + marks(cut, "i").size(), 3u);
}

TEST(Trace, of_an_empty_run_is_json) {
    EXPECT_EQ(marks(trace_of({}), "X").size(), 0u);
}

} // namespace
} // namespace lategrad
