/// lategrad simulate: virtual time, the same run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "tests/cli/small_run.h"

namespace lategrad {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::vector<std::string> simulated(std::vector<std::string> arguments) {
    arguments.front() = "simulate";
    return arguments;
}

TEST(Simulate, RunsAsTrainDoesAndReplays) {
    const TempDir dir;
    const json summary = summary_of(run_program(simulated(small_run(
        dir, "run", {"--workers", "8", "--straggle", "slow:2,4", "--momentum", "0.9", "--eval-every", "10"}))));
    expect_accounted(summary);
    EXPECT_EQ(summary["transport"], "simulation");
    EXPECT_EQ(summary["updates"], 40);
    EXPECT_GT(summary["late_applied"], 0);
    EXPECT_GT(summary["accuracy"], 0.5);
    // 20 ms each, and nobody waits for the slow ones.
    EXPECT_NEAR(summary["seconds"].get<double>(), 40 * 0.020, 1e-6);
    const Ran replayed = run_program({"replay", (dir / "run").string()});
    EXPECT_EQ(replayed.status, 0) << replayed.out << replayed.err;
    EXPECT_THAT(replayed.out, HasSubstr("the same, bit for bit"));
    const Ran evaluated = run_program({"evaluate", (dir / "run").string()});
    EXPECT_EQ(evaluated.status, 0) << evaluated.err;
}

TEST(Simulate, RunsInWhichWorkersDieAndReturnReplay) {
    const TempDir dir;
    for (const char* policy : {"reuse", "kbatch", "sync"}) {
        const json summary = summary_of(run_program(
            simulated(small_run(dir, policy,
                                {"--workers", "6", "--straggle", "exp:20ms", "--policy", policy, "--late-weight",
                                 "span", "--codec", "topk:0.1", "--publish-codec", "delta:qsgd:8", "--staleness-max",
                                 "0", "--failures", "mtbf:300ms,rejoin:50ms,detect:30ms", "--update-time", "15ms"}))));
        expect_accounted(summary);
        EXPECT_GT(summary["lost"], 6) << policy;
        if (std::string_view(policy) == "reuse") {
            EXPECT_GT(summary["dropped"], 0);
        }
        const Ran replayed = run_program({"replay", (dir / policy).string()});
        EXPECT_THAT(replayed.out, HasSubstr("the same, bit for bit")) << policy << replayed.err;
    }
}

TEST(Simulate, RunsInWhichDroppedGradientsComeBackReplay) {
    const TempDir dir;
    for (const char* codec : {"topk:0.05", "signsgd+zstd", "dgc:0.1", "lowrank:2", "randk:0.1"}) {
        const json summary = summary_of(run_program(simulated(small_run(
            dir, codec,
            {"--codec", codec, "--staleness-max", "0", "--straggle", "exp:20ms", "--lr-schedule", "step:0.3,0.5"}))));
        EXPECT_GT(summary["dropped"], 10) << codec;
        const Ran replayed = run_program({"replay", (dir / codec).string()});
        EXPECT_THAT(replayed.out, HasSubstr("the same, bit for bit")) << codec << replayed.err;
    }
}

TEST(Simulate, IsTheSameByteForByteOnAnyNumberOfThreads) {
    const TempDir dir;
    const auto events = [&](const std::string& name, const std::string& jobs) {
        summary_of(run_program(simulated(small_run(dir, name,
                                                   {"--workers",
                                                    "8",
                                                    "--straggle",
                                                    "pareto:1.5,5ms",
                                                    "--link",
                                                    "100Mbit,1ms",
                                                    "--failures",
                                                    "mtbf:200ms,rejoin:30ms,detect:10ms",
                                                    "--policy",
                                                    "backup",
                                                    "--cancel-late",
                                                    "--eval-every",
                                                    "7",
                                                    "--update-time",
                                                    "1ms",
                                                    "--codec",
                                                    "signsgd",
                                                    "--publish-codec",
                                                    "delta:topk:0.1",
                                                    "--jobs",
                                                    jobs}))));
        return text_in(dir / name / "events.jsonl");
    };
    const std::string one = events("one", "1");
    EXPECT_THAT(one, HasSubstr("\"leave\""));
    EXPECT_EQ(one, events("again", "1"));
    EXPECT_EQ(one, events("two", "2"));
    EXPECT_EQ(one, events("eight", "8"));
    EXPECT_EQ(text_in(dir / "one/weights.safetensors"), text_in(dir / "eight/weights.safetensors"));
}

TEST(Simulate, ItsFolderIsAConfiguration) {
    const TempDir dir;
    summary_of(run_program(
        simulated(small_run(dir, "first", {"--link", "10Mbit,2ms", "--servers", "2", "--compute", "3ms"}))));
    const std::string first = (dir / "first").string();
    summary_of(run_program({"simulate", "--config", first, "--out", (dir / "second").string(), "--json", "--quiet"}));
    EXPECT_EQ(text_in(dir / "first/events.jsonl"), text_in(dir / "second/events.jsonl"));
    EXPECT_EQ(text_in(dir / "first/config.toml"), text_in(dir / "second/config.toml"));
    // The problem alone is of use to the other commands.
    summary_of(run_program({"train", "--config", first, "--out", (dir / "third").string(), "--json", "--quiet"}));
}

TEST(Simulate, TakesTheTimingAlone) {
    const TempDir dir;
    const auto run = [&](const std::string& name, std::vector<std::string> more) {
        std::vector<std::string> arguments = {"simulate", "--gradients",  "none",   "--payload", "4MB",
                                              "--out",    dir / name,     "--json", "--quiet",   "--straggle",
                                              "exp:20ms", "--batch-size", "512"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return summary_of(run_program(arguments));
    };
    const json summary = run("small", {"--workers", "200", "--updates", "50"});
    expect_accounted(summary);
    EXPECT_EQ(summary["accuracy"], nullptr);
    EXPECT_EQ(summary["updates"], 50);
    EXPECT_EQ(summary["model"], "none");
    EXPECT_GT(summary["bytes_received"].get<double>(), 50 * 150 * 4e6);
    std::uint64_t applied = 0;
    for (const auto& count : summary["staleness_histogram"]) applied += count.get<std::uint64_t>();
    EXPECT_EQ(applied, summary["applied"]);
    EXPECT_EQ(summary["staleness_histogram"][0].get<std::uint64_t>(),
              applied - summary["late_applied"].get<std::uint64_t>());
    EXPECT_EQ(text_in(dir / "small/events.jsonl"), "");
    EXPECT_FALSE(std::filesystem::exists(dir / "small/weights.safetensors"));

    run("one", {"--workers", "20", "--updates", "50", "--log", "events"});
    run("two", {"--workers", "20", "--updates", "50", "--log", "events"});
    EXPECT_THAT(text_in(dir / "one/events.jsonl"), HasSubstr("\"update\""));
    EXPECT_EQ(text_in(dir / "one/events.jsonl"), text_in(dir / "two/events.jsonl"));
    // Without a payload, the model's size.
    const json model = summary_of(run_program(simulated(small_run(dir, "model", {"--gradients", "none"}))));
    EXPECT_EQ(model["model"], "mlp:20");
    const std::uint64_t bytes = 4 * (40 * 20 + 20 + 20 * 10 + 10) + 96;
    EXPECT_GE(model["bytes_received"].get<std::uint64_t>(), model["applied"].get<std::uint64_t>() * bytes);
    EXPECT_LE(model["bytes_received"].get<std::uint64_t>(), model["pushed"].get<std::uint64_t>() * (bytes + 96));
}

TEST(Simulate, TakesTheTimingOfEncodedGradients) {
    const TempDir dir;
    const auto seconds_with = [&](const std::string& codec, const std::string& publish_codec) {
        const json summary = summary_of(run_program({"simulate",
                                                     "--gradients",
                                                     "none",
                                                     "--payload",
                                                     "4MB",
                                                     "--workers",
                                                     "4",
                                                     "--policy",
                                                     "sync",
                                                     "--compute",
                                                     "0ms",
                                                     "--link",
                                                     "100Mbit",
                                                     "--updates",
                                                     "10",
                                                     "--codec",
                                                     codec,
                                                     "--publish-codec",
                                                     publish_codec,
                                                     "--json",
                                                     "--quiet",
                                                     "--out",
                                                     (dir / (codec + publish_codec)).string()}));
        return summary["seconds"].get<double>();
    };
    // 4 workers' 4 MB at 100 Mbit/s in and out: 2.56 s an update, but for the last, whose parameters nobody waits for.
    const double plain = seconds_with("none", "none");
    EXPECT_NEAR(plain, 10 * 2.56, 0.05);
    EXPECT_NEAR(seconds_with("fp16", "fp16"), plain / 2, 0.05);
    EXPECT_NEAR(seconds_with("signsgd", "none"), plain / 2 + plain / 2 / 31.75, 0.05);
    EXPECT_NEAR(seconds_with("topk:0.01", "delta:topk:0.01"), plain / 65, 0.05);
}

TEST(Simulate, TakesAHundredThousandWorkersIntoTwoGibibytes) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "sanitizers need the memory that this test takes away";
#endif
    const TempDir dir;
    const Ran ran = run_program({"simulate", "--gradients", "none", "--workers", "100000", "--batch-size", "100000",
                                 "--payload", "4MB", "--straggle", "exp:20ms", "--updates", "3", "--json", "--quiet",
                                 "--out", (dir / "run").string()},
                                "ulimit -d 2097152;"); // KiB of data
    EXPECT_EQ(summary_of(ran)["updates"], 3);
}

/// The same options, with sleeping in place of computing and in virtual time.
struct Straggling {
    std::string workers;
    std::string spec;
    std::string policy = "reuse";
};

TEST(Agreement, OfSleepingWorkersAndVirtualTime) {
    const TempDir dir;
    const std::string data = write_blobs(dir).string();
    const std::vector<Straggling> cases = {{"4", "exp:40ms"},
                                           {"4", "slow:1,4"},
                                           {"4", "bimodal:0.2,5"},
                                           {"8", "exp:40ms"},
                                           {"8", "slow:2,4"},
                                           {"8", "bimodal:0.2,5"},
                                           // These drop work.
                                           {"4", "exp:40ms", "backup"},
                                           {"8", "slow:2,4", "backup"},
                                           {"8", "bimodal:0.2,5", "backup"}};
    const auto run = [&](const std::string& command, std::size_t i) {
        return run_program({command,
                            "--gradients",
                            "none",
                            "--compute",
                            "40ms",
                            "--data",
                            data,
                            "--model",
                            "logistic",
                            "--batch-size",
                            "64",
                            "--workers",
                            cases[i].workers,
                            "--straggle",
                            cases[i].spec,
                            "--policy",
                            cases[i].policy,
                            "--time-limit",
                            "8",
                            "--json",
                            "--quiet",
                            "--out",
                            (dir / (command + std::to_string(i))).string()});
    };
    // All at once: who sleeps needs no core.
    std::vector<std::future<Ran>> trained;
    for (std::size_t i = 0; i < cases.size(); ++i) {
        trained.push_back(std::async(std::launch::async, run, "train", i));
    }
    for (std::size_t i = 0; i < cases.size(); ++i) {
        SCOPED_TRACE(cases[i].workers + " workers, " + cases[i].spec + ", " + cases[i].policy);
        const json real = summary_of(trained[i].get());
        const json simulated = summary_of(run("simulate", i));
        expect_accounted(real);
        for (const char* field : {"updates", "work_used", "staleness_mean"}) {
            const double expected = simulated[field].get<double>();
            EXPECT_NEAR(real[field].get<double>(), expected, 0.1 * expected) << field;
        }
        if (cases[i].policy == "backup") {
            EXPECT_LT(simulated["work_used"], 0.95);
        }
        RecordProperty(cases[i].workers + " " + cases[i].spec + " " + cases[i].policy,
                       real["updates"].dump() + " " + simulated["updates"].dump());
    }
}

} // namespace
} // namespace lategrad
