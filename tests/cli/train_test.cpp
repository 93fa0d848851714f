/// Whole runs of the program in threads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <spawn.h>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "tests/cli/small_run.h"
#include "tests/data/idx_files.h"

namespace lategrad {
namespace {

using nlohmann::json;
using testing::HasSubstr;

TEST(Train, LeavesAWholeRunFolder) {
    const TempDir dir;
    const json summary = summary_of(run_program(small_run(dir, "run", {"--workers", "8", "--straggle", "exp:2ms"})));
    EXPECT_EQ(summary["policy"], "reuse");
    EXPECT_EQ(summary["workers"], 8);
    EXPECT_EQ(summary["wait_for"], 6);
    EXPECT_EQ(summary["updates"], 40);
    EXPECT_EQ(summary["outcome"], "updates");
    EXPECT_GT(summary["late_applied"], 0);
    EXPECT_GT(summary["accuracy"], 0.5);
    expect_accounted(summary);
    for (const char* file : {"config.toml", "fingerprint.json", "events.jsonl", "evaluations.jsonl", "summary.json",
                             "weights.safetensors", "trace.json"}) {
        EXPECT_TRUE(std::filesystem::exists(dir / "run" / file)) << file;
    }
    EXPECT_EQ(json::parse(text_in(dir / "run/summary.json")), summary);

    const Ran evaluated = run_program({"evaluate", (dir / "run").string(), "--json"});
    EXPECT_EQ(json::parse(evaluated.out)["accuracy"], summary["accuracy"]);
    const Ran inspected = run_program({"inspect", (dir / "run").string()});
    EXPECT_THAT(inspected.out, HasSubstr("late among them"));
    EXPECT_THAT(run_program({"inspect", (dir / "run/weights.safetensors").string()}).out, HasSubstr("fc1.weight"));
}

TEST(Train, AFolderOfImagesIsFoundFromAnywhere) {
    const TempDir dir;
    std::filesystem::create_directory(dir / "images");
    for (const std::string part : {"train", "t10k"}) {
        dir.write("images/" + part + "-images-idx3-ubyte", idx_file({4, 1, 2}, bytes_of({0, 9, 9, 0, 1, 8, 8, 1})));
        dir.write("images/" + part + "-labels-idx1-ubyte", idx_file({4}, bytes_of({0, 2, 0, 2})));
    }
    const std::string there = "cd " + shell_quoted(dir.path().string()) + " &&";
    for (const std::string option : {"--data", "--data-dir"}) {
        SCOPED_TRACE(option);
        const std::string run = "run" + option;
        const Ran ran = run_program({"train", option, "images", "--model", "logistic", "--workers", "2", "--batch-size",
                                     "4", "--updates", "20", "--quiet", "--out", run},
                                    there);
        ASSERT_EQ(ran.status, 0) << ran.err;
        const Ran evaluated = run_program({"evaluate", (dir / run).string(), "--json"});
        EXPECT_EQ(json::parse(evaluated.out)["examples"], 4) << evaluated.err;
        EXPECT_EQ(run_program({"replay", (dir / run).string()}).status, 0);
    }
}

TEST(Train, AConfigFileIsReadAndTheCommandLineWins) {
    const TempDir dir;
    summary_of(run_program(small_run(dir, "first", {"--policy", "async", "--workers", "3"})));
    const Ran again = run_program({"train", "--config", (dir / "first/config.toml").string(), "--workers", "2",
                                   "--wait-for", "2", "--out", (dir / "second").string(), "--json", "--quiet"});
    const json summary = summary_of(again);
    EXPECT_EQ(summary["policy"], "async");
    EXPECT_EQ(summary["workers"], 2);
    EXPECT_EQ(summary["updates"], 40);
}

TEST(Train, EveryPolicyEndsAndIsAccountedFor) {
    const TempDir dir;
    for (const std::string policy : {"sync", "backup", "reuse", "kasync", "async", "ssp:2"}) {
        SCOPED_TRACE(policy);
        const json summary = summary_of(run_program(small_run(
            dir, "run-" + policy, {"--policy", policy, "--straggle", "bimodal:0.2,5", "--late-weight", "span"})));
        expect_accounted(summary);
        EXPECT_EQ(summary["updates"], 40);
    }
    const json cancelled = summary_of(run_program(
        small_run(dir, "cancel", {"--policy", "backup", "--cancel-late", "--straggle", "exp:3ms", "--wait-for", "2"})));
    EXPECT_GT(cancelled["lost"], 0);
    EXPECT_LT(cancelled["work_used"], 0.9) << "what was cancelled was computed on in vain";
    expect_accounted(cancelled);
}

TEST(Train, CertifiesLateGradientsByTheCurvatureGivenOrEstimated) {
    const TempDir dir;
    const auto run = [&](const std::string& name, std::vector<std::string> more) {
        more.insert(more.begin(), {"--model", "logistic", "--weight-decay", "0.1", "--late-weight", "certified",
                                   "--workers", "8", "--straggle", "exp:2ms"});
        const Ran ran = run_program(small_run(dir, name, more));
        expect_accounted(summary_of(ran));
        EXPECT_EQ(run_program({"replay", (dir / name).string()}).err, "");
        return ran.err;
    };
    EXPECT_EQ(run("given", {"--lr", "0.02", "--curvature", "0.1,50"}), "");
    EXPECT_THAT(text_in(dir / "given/config.toml"), HasSubstr("curvature = \"0.1,50\"\n"));
    EXPECT_THAT(text_in(dir / "given/events.jsonl"), HasSubstr("\"weight\":0.00")) << "of late ones";

    EXPECT_THAT(run("estimated", {"--lr", "0.01"}),
                HasSubstr("warning: --late-weight certified: no --curvature given; estimated as 0.1"));
    EXPECT_THAT(text_in(dir / "estimated/config.toml"), HasSubstr("# curvature, not given, was estimated as 0.1"));
    EXPECT_THAT(run("too-long", {"--lr", "5"}), HasSubstr("warning: --lr 5: above 1/b of this estimate"));
}

TEST(Train, SyncIsRepeatableBitForBit) {
    const TempDir dir;
    for (const char* name : {"a", "b"}) {
        summary_of(
            run_program(small_run(dir, name, {"--policy", "sync", "--momentum", "0.9", "--straggle", "exp:1ms"})));
    }
    EXPECT_EQ(text_in(dir / "a/weights.safetensors"), text_in(dir / "b/weights.safetensors"));
}

TEST(Train, AnInterruptedRunEndsCleanly) {
    const TempDir dir;
    auto arguments = small_run(dir, "run", {"--updates", "100000000"});
    arguments.insert(arguments.begin(), program_path());
    // The events file is there when the signals are already waited for.
    const int notify = inotify_init1(IN_CLOEXEC);
    ASSERT_GE(inotify_add_watch(notify, dir.path().c_str(), IN_CREATE), 0);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, (dir / "out").c_str(), O_WRONLY | O_CREAT, 0600);
    pid_t child = 0;
    ASSERT_EQ(posix_spawn(&child, argv[0], &actions, nullptr, argv.data(), environ), 0);
    while (!std::filesystem::exists(dir / "run/events.jsonl")) {
        char events[4096];
        if (std::filesystem::exists(dir / "run")) inotify_add_watch(notify, (dir / "run").c_str(), IN_CREATE);
        if (std::filesystem::exists(dir / "run/events.jsonl")) break;
        ASSERT_GT(read(notify, events, sizeof events), 0);
    }
    kill(child, SIGINT);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(WEXITSTATUS(status), 1);
    const json summary = json::parse(text_in(dir / "run/summary.json"));
    EXPECT_EQ(summary["outcome"], "interrupted");
    expect_accounted(summary);
    EXPECT_TRUE(std::filesystem::exists(dir / "run/weights.safetensors"));
    posix_spawn_file_actions_destroy(&actions);
    close(notify);
}

TEST(Train, SaysWhereTheCodecTakesTheMomentum) {
    const TempDir dir;
    const Ran ran = run_program(small_run(dir, "run", {"--codec", "dgc:0.1", "--momentum", "0.9", "--updates", "2"}));
    EXPECT_EQ(ran.status, 0) << ran.err;
    EXPECT_THAT(ran.err, HasSubstr("--codec dgc:0.1: the momentum, 0.9, is the workers'"));
}

TEST(Train, AnEnormousLearningRateDivergesLikeOthers) {
    const TempDir dir;
    const Ran ran = run_program(small_run(dir, "run", {"--codec", "topk:0.1", "--lr", "1e39"}));
    EXPECT_EQ(ran.status, 1); // not the program's
    EXPECT_THAT(ran.err, HasSubstr("the run diverged"));
}

TEST(Train, ADivergedRunSaysSo) {
    const TempDir dir;
    const Ran ran = run_program(small_run(dir, "run", {"--lr", "1e30", "--model", "mlp:20,20"}));
    EXPECT_EQ(ran.status, 1);
    EXPECT_THAT(ran.err, HasSubstr("diverged"));
    expect_accounted(json::parse(ran.out));
}

TEST(Help, HasExamples) {
    EXPECT_THAT(run_program({"--help"}).out, HasSubstr("lategrad train"));
    for (const std::string command : {"train", "compare", "simulate", "theory", "evaluate", "replay", "inspect"}) {
        const Ran ran = run_program({command, "--help"});
        EXPECT_EQ(ran.status, 0);
        EXPECT_THAT(ran.out, HasSubstr("Example")) << command;
    }
    EXPECT_THAT(run_program({"bench", "codecs", "--help"}).out, HasSubstr("Example"));
    EXPECT_THAT(run_program({"--version"}).out, HasSubstr("lategrad "));
}

} // namespace
} // namespace lategrad
