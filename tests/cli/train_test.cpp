/// Whole runs of the program: in threads, over MPI, interrupted, replayed, compared.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <spawn.h>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "lategrad/files/file.h"
#include "tests/cli/program.h"

namespace lategrad {
namespace {

using nlohmann::json;
using testing::HasSubstr;

/// A run of a linear model on small data, to `dir`/`name`.
std::vector<std::string> small_run(const TempDir& dir, const std::string& name, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"train",
                                          "--data",
                                          write_blobs(dir).string(),
                                          "--model",
                                          "mlp:20",
                                          "--out",
                                          (dir / name).string(),
                                          "--batch-size",
                                          "64",
                                          "--updates",
                                          "40",
                                          "--lr",
                                          "0.5",
                                          "--json",
                                          "--quiet"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
}

json summary_of(const Ran& ran) {
    EXPECT_EQ(ran.status, 0) << ran.err;
    return json::parse(ran.out, nullptr, false);
}

void expect_accounted(const json& summary) {
    EXPECT_EQ(summary["pushed"], summary["applied"].get<int>() + summary["dropped"].get<int>() +
                                     summary["held"].get<int>() + summary["lost"].get<int>());
}

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
    expect_accounted(cancelled);
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
    arguments.insert(arguments.begin(), LATEGRAD_PROGRAM);
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
    ASSERT_EQ(posix_spawn(&child, LATEGRAD_PROGRAM, &actions, nullptr, argv.data(), environ), 0);
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

TEST(Train, ADivergedRunSaysSo) {
    const TempDir dir;
    const Ran ran = run_program(small_run(dir, "run", {"--lr", "1e30", "--model", "mlp:20,20"}));
    EXPECT_EQ(ran.status, 1);
    EXPECT_THAT(ran.err, HasSubstr("diverged"));
    expect_accounted(json::parse(ran.out));
}

TEST(Replay, ReproducesARunOfEightWorkersInThreads) {
    const TempDir dir;
    const std::string run = (dir / "run").string();
    const json summary = summary_of(run_program(small_run(
        dir, "run", {"--workers", "8", "--straggle", "exp:2ms", "--momentum", "0.9", "--late-weight", "inverse"})));
    EXPECT_GT(summary["late_applied"], 0);
    const Ran replayed = run_program({"replay", run});
    EXPECT_EQ(replayed.status, 0) << replayed.out << replayed.err;
    EXPECT_THAT(replayed.out, HasSubstr("the same, bit for bit"));

    // Other weights are found out.
    const std::string weights = text_in(dir / "run/weights.safetensors");
    std::string changed = weights;
    changed.back() = static_cast<char>(changed.back() ^ 1);
    write_file_atomically(dir / "run/weights.safetensors", changed);
    const Ran differs = run_program({"replay", run});
    EXPECT_EQ(differs.status, 1);
    EXPECT_THAT(differs.out, HasSubstr("1 of "));

    // Another build or machine is refused, with the difference named.
    json fingerprint = json::parse(text_in(dir / "run/fingerprint.json"));
    fingerprint.begin().value() = "something else";
    write_file_atomically(dir / "run/fingerprint.json", fingerprint.dump());
    const Ran refused = run_program({"replay", run});
    EXPECT_EQ(refused.status, 2);
    EXPECT_THAT(refused.err, HasSubstr("something else"));
}

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

TEST(Help, HasExamples) {
    EXPECT_THAT(run_program({"--help"}).out, HasSubstr("lategrad train"));
    for (const std::string command : {"train", "compare", "evaluate", "replay", "inspect"}) {
        const Ran ran = run_program({command, "--help"});
        EXPECT_EQ(ran.status, 0);
        EXPECT_THAT(ran.out, HasSubstr("Example")) << command;
    }
    EXPECT_THAT(run_program({"--version"}).out, HasSubstr("lategrad "));
}

} // namespace
} // namespace lategrad
