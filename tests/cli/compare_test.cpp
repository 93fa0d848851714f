/// lategrad compare: a table of several policies.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/small_run.h"

namespace lategrad {
namespace {

using nlohmann::json;
using testing::HasSubstr;

TEST(Compare, PrintsATableAndKeepsTheRuns) {
    const TempDir dir;
    std::vector<std::string> arguments = {"compare",
                                          "--policies",
                                          "sync,backup,reuse@3",
                                          "--data",
                                          write_blobs(dir).string(),
                                          "--model",
                                          "logistic",
                                          "--workers",
                                          "4",
                                          "--batch-size",
                                          "64",
                                          "--epochs",
                                          "20",
                                          "--lr",
                                          "0.5",
                                          "--straggle",
                                          "exp:1ms",
                                          "--quiet",
                                          "--out",
                                          (dir / "compared").string()};
    const Ran ran = run_program(arguments);
    EXPECT_EQ(ran.status, 0) << ran.err;
    for (const char* word : {"sync", "backup k=3", "reuse k=3", "s to", "work used", "staleness mean"}) {
        EXPECT_THAT(ran.out, HasSubstr(word));
    }
    EXPECT_TRUE(std::filesystem::exists(dir / "compared/reuse-k-3/summary.json"));
    EXPECT_EQ(run_program(arguments).status, 2); // already there

    arguments.back() = (dir / "again").string();
    arguments.push_back("--json");
    const Ran as_json = run_program(arguments);
    const json summaries = json::parse(as_json.out);
    ASSERT_EQ(summaries.size(), 3u);
    for (const json& summary : summaries) expect_accounted(summary);
}

TEST(Compare, StopsEachAtTheSameTime) {
    const TempDir dir;
    const Ran ran = run_program({"compare", "--policies", "sync,reuse", "--data", write_blobs(dir).string(), "--model",
                                 "logistic", "--batch-size", "64", "--time-limit", "200ms", "--quiet", "--json",
                                 "--out", (dir / "compared").string()});
    ASSERT_EQ(ran.status, 0) << ran.err;
    for (const json& summary : json::parse(ran.out)) {
        EXPECT_EQ(summary["outcome"], "time limit");
        EXPECT_GE(summary["seconds"], 0.2);
        EXPECT_FALSE(summary["accuracy"].is_null());
        expect_accounted(summary);
    }
}

} // namespace
} // namespace lategrad
