#include "lategrad/telemetry/summary.h"

#include <gtest/gtest.h>

#include "tests/files/temp_dir.h"
#include "tests/telemetry/example_run.h"

namespace lategrad {
namespace {

Summary summary_of(const std::vector<RunEvent>& events) {
    SummaryBuilder builder({.policy = "reuse",
                            .workers = 2,
                            .wait_for = 1,
                            .model = "lenet",
                            .data = "fashion-mnist",
                            .transport = "in_process",
                            .codec = "topk:0.01",
                            .publish_codec = "fp16"});
    for (const RunEvent& event : events) builder.tell(event);
    return builder.summary();
}

TEST(Summary, counts_the_events_of_a_run) {
    const Summary summary = summary_of(example_run());
    EXPECT_EQ(summary.updates, 2u);
    EXPECT_EQ(summary.seconds, 3); // the evaluation after the end does not count
    EXPECT_EQ(summary.pushed, 5u);
    EXPECT_EQ(summary.applied, 3u);
    EXPECT_EQ(summary.dropped, 1u);
    EXPECT_EQ(summary.held, 0u);
    EXPECT_EQ(summary.lost, 1u);
    EXPECT_EQ(summary.late_applied, 1u);
    EXPECT_EQ(summary.work_used, 0.75); // 3 of the 4 that arrived
    EXPECT_DOUBLE_EQ(summary.staleness_mean, 1.0 / 3);
    EXPECT_EQ(summary.staleness_max, 1u);
    EXPECT_EQ(summary.examples_applied, 96u);
    EXPECT_EQ(summary.bytes_received, 12288u);
    EXPECT_EQ(summary.bytes_sent, 2u << 20);
    EXPECT_EQ(summary.accuracy, 0.375);
    EXPECT_EQ(summary.best_accuracy, 0.5);
    EXPECT_EQ(summary.loss, 1.5);
    EXPECT_EQ(summary.outcome, Outcome::updates);
    EXPECT_EQ(summary.policy, "reuse");
}

TEST(Summary, what_no_update_applied_is_held) {
    auto events = example_run();
    events.resize(8); // up to the late arrival
    const Summary summary = summary_of(events);
    EXPECT_EQ(summary.held, 1u);
    EXPECT_EQ(summary.work_used, 0.5);
    EXPECT_EQ(summary.pushed, summary.applied + summary.dropped + summary.held + summary.lost + 1); // one is under way
    EXPECT_EQ(summary.outcome, Outcome::running);
    EXPECT_EQ(summary.accuracy, std::nullopt);
}

TEST(Summary, an_evaluation_of_an_older_version_is_not_the_last) {
    const Summary summary = summary_of(
        {{at(1), Evaluation{Version{5}, at(1), 0, 0.25, 0.5}}, {at(2), Evaluation{Version{3}, at(1), 0, 0.75, 0.625}}});
    EXPECT_EQ(summary.accuracy, 0.5);
    EXPECT_EQ(summary.loss, 0.25);
    EXPECT_EQ(summary.best_accuracy, 0.625);
}

TEST(Summary, nothing_happened) {
    const Summary summary = summary_of({});
    EXPECT_EQ(summary.work_used, 0);
    EXPECT_EQ(summary.staleness_mean, 0);
}

TEST(Summary, json_by_example) {
    Summary summary = summary_of(example_run());
    summary.staleness_mean = 0.25;
    summary.best_accuracy.reset();
    const std::string json = to_json(summary);
    EXPECT_EQ(json, R"({
  "policy": "reuse",
  "workers": 2,
  "wait_for": 1,
  "updates": 2,
  "seconds": 3.0,
  "accuracy": 0.375,
  "loss": 1.5,
  "pushed": 5,
  "applied": 3,
  "dropped": 1,
  "held": 0,
  "lost": 1,
  "staleness_mean": 0.25,
  "staleness_max": 1,
  "bytes_received": 12288,
  "bytes_sent": 2097152,
  "outcome": "updates",
  "best_accuracy": null,
  "examples_applied": 96,
  "late_applied": 1,
  "staleness_histogram": [
    2,
    1
  ],
  "work_used": 0.75,
  "stray": 0,
  "data_coverage": null,
  "model": "lenet",
  "data": "fashion-mnist",
  "transport": "in_process",
  "codec": "topk:0.01",
  "publish_codec": "fp16"
})");
    EXPECT_EQ(parse_summary(json), summary);
}

TEST(Summary, reads_back_exactly) {
    Summary summary = summary_of(example_run());
    summary.seconds = 0.1 + 0.2;
    summary.stray = ~std::uint64_t{0};
    summary.data_coverage = 0.1;
    summary.data = "a \"quoted\" name\n";
    summary.server_load = {.receiving = 0.1, .sending = 1.0 / 3, .updating = 0};
    summary.faults = {{"damaged header", 3}, {"stray frame", 1}};
    EXPECT_EQ(parse_summary(to_json(summary)), summary);
}

TEST(Summary, counts_staleness_by_powers_of_two) {
    SummaryBuilder builder;
    UpdateEvent update{.version = Version{9}};
    for (const std::uint64_t staleness : {0, 0, 1, 2, 3, 4, 7, 8}) {
        update.applied.push_back({.base = Version{9 - staleness}, .examples = 1});
    }
    builder.tell({Time{}, update});
    EXPECT_EQ(builder.summary().staleness_histogram, (std::vector<std::uint64_t>{2, 1, 2, 2, 1}));
}

TEST(Summary, says_what_is_wrong) {
    EXPECT_EQ(message_of([] { parse_summary("{"); }), "not JSON at byte 2");
    EXPECT_EQ(message_of([] { parse_summary("{}"); }), "field \"policy\" is missing");
}

} // namespace
} // namespace lategrad
