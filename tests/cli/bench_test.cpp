/// lategrad bench codecs: what it measures and which choice it names.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/program.h"

namespace lategrad {
namespace {

using nlohmann::json;
using testing::HasSubstr;

TEST(Bench, NamesTheFastestCodecsOverALink) {
    const TempDir dir;
    std::vector<std::string> arguments = {"bench",
                                          "codecs",
                                          "--data",
                                          write_blobs(dir).string(),
                                          "--model",
                                          "mlp:100",
                                          "--codecs",
                                          "none,fp16,topk:0.01",
                                          "--publish-codecs",
                                          "none,delta:topk:0.01",
                                          "--link",
                                          "1Mbit",
                                          "--json"};
    const Ran ran = run_program(arguments);
    ASSERT_EQ(ran.status, 0) << ran.err;
    const json out = json::parse(ran.out);
    // So slow a link that bytes alone decide.
    EXPECT_EQ(out["fastest_codec"], "topk:0.01");
    EXPECT_EQ(out["fastest_publish_codec"], "delta:topk:0.01");
    ASSERT_EQ(out["codecs"].size(), 3u);
    EXPECT_EQ(out["codecs"][0]["bytes"], 4 * out["parameters"].get<double>());
    EXPECT_EQ(out["codecs"][0]["ratio"], 1);
    EXPECT_NEAR(out["codecs"][1]["ratio"], 2, 0.05);
    for (const json& codec : out["codecs"]) {
        // All four workers' gradients share the server's link.
        EXPECT_GE(codec["update_seconds"], 4 * 8 * codec["bytes"].get<double>() / 1e6);
    }
    arguments.pop_back();
    const Ran table = run_program(arguments);
    EXPECT_THAT(table.out, HasSubstr("Fastest over 1Mbit: --codec topk:0.01 --publish-codec delta:topk:0.01"));
}

TEST(Bench, RefusesWhatItCannotMeasure) {
    const TempDir dir;
    const std::string data = write_blobs(dir).string();
    const auto says = [&](std::vector<std::string> more, const std::string& what) {
        std::vector<std::string> arguments = {"bench", "codecs", "--data", data, "--model", "logistic"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        const Ran ran = run_program(arguments);
        EXPECT_EQ(ran.status, 2);
        EXPECT_THAT(ran.err, HasSubstr(what));
        EXPECT_EQ(ran.out, "");
    };
    says({"--codecs", "none,zip"}, "--codecs zip: expected");
    says({"--publish-codecs", "topk:0.1"}, "--publish-codecs topk:0.1");
    says({"--link", "fast"}, "--link fast");
}

} // namespace
} // namespace lategrad
