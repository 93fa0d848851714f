/// lategrad compare: a table of several policies.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

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

TEST(Compare, PutsCodecsSideBySide) {
    const TempDir dir;
    std::vector<std::string> arguments = {"compare",
                                          "--codecs",
                                          "none,bf16,topk:0.1",
                                          "--data",
                                          write_blobs(dir).string(),
                                          "--model",
                                          "logistic",
                                          "--batch-size",
                                          "64",
                                          "--epochs",
                                          "5",
                                          "--quiet",
                                          "--out",
                                          (dir / "table").string()};
    const Ran table = run_program(arguments);
    EXPECT_EQ(table.status, 0) << table.err;
    for (const char* word : {"codec", "none", "bf16", "topk:0.1", "received", "sent", "accuracy"})
        EXPECT_THAT(table.out, HasSubstr(word));
    EXPECT_TRUE(std::filesystem::exists(dir / "table/topk-0.1/summary.json"));

    const Ran as_that_run = run_program({"compare", "--config", (dir / "table/bf16").string(), "--codecs", "none,fp16",
                                         "--quiet", "--out", (dir / "again").string()});
    EXPECT_EQ(as_that_run.status, 0) << as_that_run.err; // its codec gives way to the list
    EXPECT_TRUE(std::filesystem::exists(dir / "again/fp16/summary.json"));

    std::ofstream(dir / "lists.toml") << "codec = \"bf16\"\ncodecs = \"none,fp16\"\n";
    const Ran as_file_says = run_program({"compare", "--config", (dir / "lists.toml").string(), "--data",
                                          write_blobs(dir).string(), "--model", "logistic", "--batch-size", "64",
                                          "--epochs", "1", "--quiet", "--out", (dir / "listed").string()});
    EXPECT_EQ(as_file_says.status, 0) << as_file_says.err;
    EXPECT_TRUE(std::filesystem::exists(dir / "listed/fp16/summary.json"));

    arguments.back() = (dir / "json").string();
    arguments.insert(arguments.end(), {"--json", "--policies", "sync,reuse"});
    const json summaries = json::parse(run_program(arguments).out);
    ASSERT_EQ(summaries.size(), 6u); // each codec with each policy
    EXPECT_EQ(summaries[1]["codec"], "bf16");
    EXPECT_EQ(summaries[4]["policy"], "reuse");
    EXPECT_LT(summaries[1]["bytes_received"], summaries[0]["bytes_received"]);
}

TEST(Compare, SaysWhereACodecTakesTheMomentum) {
    const TempDir dir;
    const Ran ran = run_program({"compare", "--codecs", "none,dgc:0.1,2", "--momentum", "0.9", "--data",
                                 write_blobs(dir).string(), "--model", "logistic", "--batch-size", "64", "--epochs",
                                 "1", "--out", (dir / "compared").string()});
    ASSERT_EQ(ran.status, 0) << ran.err;
    EXPECT_THAT(ran.err, HasSubstr("--codec dgc:0.1,2: the momentum, 0.9, is the workers'"));
    EXPECT_TRUE(std::filesystem::exists(dir / "compared/dgc-0.1,2/summary.json"));
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
