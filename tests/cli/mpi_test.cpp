/// The program under mpirun: the same results as in threads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/program.h"

namespace lategrad {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::vector<std::string> run_to(const TempDir& dir, const std::string& name, std::vector<std::string> more) {
    std::vector<std::string> arguments = {"train",      "--data",    write_blobs(dir).string(),
                                          "--model",    "mlp:20",    "--batch-size",
                                          "64",         "--updates", "40",
                                          "--momentum", "0.9",       "--json",
                                          "--quiet",    "--out",     (dir / name).string()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
}

std::size_t times_said(const std::string& what, const std::string& text) {
    std::size_t count = 0;
    for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
    return count;
}

TEST(Mpi, SyncReachesTheSameBitsAsInThreads) {
    const TempDir dir;
    ASSERT_EQ(run_program(run_to(dir, "threads", {"--policy", "sync", "--workers", "4"})).status, 0);
    for (const std::string name : {"mpi", "again"}) {
        const Ran ran = run_program(run_to(dir, name, {"--policy", "sync"}), mpirun(5));
        ASSERT_EQ(ran.status, 0) << ran.err;
        EXPECT_EQ(text_in(dir / name / "weights.safetensors"), text_in(dir / "threads/weights.safetensors")) << name;
    }
}

TEST(Mpi, ARunOfEightWorkersReplays) {
    const TempDir dir;
    const Ran ran = run_program(run_to(dir, "run", {"--straggle", "exp:3ms", "--wait-for", "5"}), mpirun(9));
    ASSERT_EQ(ran.status, 0) << ran.err;
    const json summary = json::parse(ran.out);
    EXPECT_EQ(summary["workers"], 8);
    EXPECT_GT(summary["late_applied"], 0);
    const Ran replayed = run_program({"replay", (dir / "run").string()});
    EXPECT_EQ(replayed.status, 0) << replayed.out << replayed.err;
}

TEST(Mpi, CompressedGradientsAndParametersTravelAndReplay) {
    const TempDir dir;
    const Ran plain = run_program(run_to(dir, "plain", {}), mpirun(5));
    const Ran ran = run_program(
        run_to(dir, "run", {"--straggle", "exp:3ms", "--codec", "topk:0.05", "--publish-codec", "delta:topk:0.05"}),
        mpirun(5));
    ASSERT_EQ(ran.status, 0) << ran.err;
    const json summary = json::parse(ran.out);
    EXPECT_LT(summary["bytes_received"].get<double>(), json::parse(plain.out)["bytes_received"].get<double>() / 4);
    EXPECT_LT(summary["bytes_sent"].get<double>(), json::parse(plain.out)["bytes_sent"].get<double>() / 1.5);
    const Ran replayed = run_program({"replay", (dir / "run").string()});
    EXPECT_EQ(replayed.status, 0) << replayed.out << replayed.err;
}

TEST(Mpi, WrongInputIsSaidOnce) {
    const TempDir dir;
    const Ran wrong_option = run_program(run_to(dir, "run", {"--policy", "hogwild"}), mpirun(3));
    EXPECT_EQ(wrong_option.status, 2);
    EXPECT_EQ(times_said("--policy hogwild", wrong_option.err), 1u) << wrong_option.err;

    const Ran wrong_count = run_program(run_to(dir, "run", {"--workers", "7"}), mpirun(3));
    EXPECT_EQ(wrong_count.status, 2);
    EXPECT_THAT(wrong_count.err, HasSubstr("--workers 7: 3 processes were started"));
    EXPECT_FALSE(std::filesystem::exists(dir / "run"));
}

TEST(Mpi, TheOtherCommandsRunByThemselves) {
    const Ran ran = run_program({"compare"}, mpirun(3));
    EXPECT_EQ(ran.status, 2);
    EXPECT_THAT(ran.err, HasSubstr("compare: runs in one process"));
}

TEST(Mpi, AFirstProcessThatComesLastStillSaysWhatIsWrong) {
    const std::string late_first =
        "sh -c 'test $(( OMPI_COMM_WORLD_RANK + PMI_RANK )) -gt 0 || sleep 0.5; \"$0\" \"$@\"'";
    const Ran ran = run_program({"compare"}, mpirun(3) + " " + late_first);
    EXPECT_EQ(ran.status, 2);
    EXPECT_THAT(ran.err, HasSubstr("lategrad: compare: runs in one process"));
    EXPECT_EQ(times_said("compare: runs", ran.err), 1u) << ran.err;
}

TEST(Mpi, WhatOnlyAnotherProcessFindsWrongIsSaidByIt) {
    const std::string other_misled =
        "sh -c 'test $(( OMPI_COMM_WORLD_RANK + PMI_RANK )) -ne 1 || set -- train --polcy sync; "
        "exec \"$0\" \"$@\"'";
    const TempDir dir;
    const Ran ran = run_program(run_to(dir, "run", {}), mpirun(3) + " " + other_misled);
    EXPECT_EQ(ran.status, 2);
    EXPECT_THAT(ran.err, HasSubstr("lategrad: rank 1: --polcy: there is no such option"));
}

TEST(Mpi, WhatOnlyTheServerFindsWrongEndsAllOfThem) {
    const TempDir dir;
    std::filesystem::create_directory(dir / "run");
    dir.write("run/events.jsonl", "another run's\n");
    const Ran ran = run_program(run_to(dir, "run", {}), mpirun(3));
    EXPECT_EQ(ran.status, 2);
    EXPECT_THAT(ran.err, HasSubstr("already holds a run"));
    EXPECT_EQ(text_in(dir / "run/events.jsonl"), "another run's\n");
}

} // namespace
} // namespace lategrad
