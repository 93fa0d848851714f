/// lategrad launch mpi: mpirun's line, how a run ends, and that a worker that is killed is survived.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "lategrad/core/parse.h"
#include "lategrad/transport/mpi_launch.h"
#include "tests/cli/background.h"
#include "tests/cli/small_run.h"

namespace lategrad {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

constexpr int kWorkers = 3;
constexpr int kVictim = 1;

class Launch : public testing::Test {
  protected:
    void SetUp() override {
        if (mpi_build_name() != "Open MPI") GTEST_SKIP() << "only Open MPI's mpirun lets the others live";
        setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
        setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    }
    void TearDown() override {
        EXPECT_TRUE(wait_until([this] { return processes().empty(); })) << "processes are left behind";
    }

    std::string run() const { return (dir_ / "run").string(); }

    std::vector<std::string> launch(std::vector<std::string> more) const {
        std::vector<std::string> arguments = small_run(dir_, "run", std::move(more));
        const std::vector<std::string> before = {"launch", "mpi", "-n", std::to_string(kWorkers + 1), "--"};
        arguments.insert(arguments.begin(), before.begin(), before.end());
        return arguments;
    }

    /// Of this test's run: each one's rank and id.
    std::vector<std::pair<int, pid_t>> processes() const {
        std::vector<std::pair<int, pid_t>> found;
        for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
            const auto process = parse_number<pid_t>(entry.path().filename().string());
            if (!process || text_in(entry.path() / "cmdline").find(dir_.path().string()) == std::string::npos) continue;
            const std::string variables = text_in(entry.path() / "environ");
            const std::string name = std::string(1, '\0') + "OMPI_COMM_WORLD_RANK=";
            const auto at = variables.find(name);
            const int rank = at == std::string::npos ? -1 : std::atoi(variables.c_str() + at + name.size());
            found.emplace_back(rank, *process);
        }
        return found;
    }

    void kill_victim() const { kill_rank(kVictim + 1); }
    void kill_rank(int rank) const {
        for (const auto& [each, process] : processes()) {
            if (each == rank) ::kill(process, SIGKILL);
        }
    }

    std::vector<json> events(const std::string& type) const {
        std::vector<json> found;
        std::istringstream lines(text_in(dir_ / "run/events.jsonl"));
        for (std::string line; std::getline(lines, line);) {
            const json event = json::parse(line, nullptr, false);
            if (event.is_object() && event["type"] == type) found.push_back(event);
        }
        return found;
    }
    bool updated_to(std::size_t version) const {
        return wait_until([&] { return events("update").size() >= version; });
    }

    /// A --straggle: the victim's step never ends, and later the others take longer than --dead-after.
    std::string stuck_at(int step) const {
        dir_.write("trace.csv", fmt::format("worker,step,seconds\n0,20,5\n{},{},3600\n2,0,0\n", kVictim, step));
        return "trace:" + (dir_ / "trace.csv").string();
    }

    TempDir dir_;
};

bool is_victims(const json& event) {
    return event["worker"] == kVictim;
}

TEST_F(Launch, AWorkerThatIsKilledIsSurvived) {
    for (const auto& [model, step] : {std::pair("mlp:20", 1), std::pair("mlp:20", 7), std::pair("mlp:900,900", 3)}) {
        SCOPED_TRACE(fmt::format("{} at step {}", model, step));
        std::filesystem::remove_all(run());
        // With --policy sync no update closes before the victim is suspect.
        Background launched(
            dir_, "launch",
            launch({"--model", model, "--policy", "sync", "--straggle", stuck_at(step), "--updates", "30",
                    "--eval-every", "1", "--heartbeat", "100ms", "--suspect-after", "1s", "--dead-after", "4s"}));
        ASSERT_TRUE(updated_to(static_cast<std::size_t>(step))) << launched.err();
        kill_victim();
        EXPECT_EQ(launched.wait(), 0) << launched.err();
        EXPECT_TRUE(std::ranges::any_of(events("suspect"), is_victims));
        EXPECT_TRUE(std::ranges::any_of(events("leave"), is_victims));
        EXPECT_TRUE(std::ranges::any_of(events("lost"), is_victims));
        const json summary = json::parse(launched.out(), nullptr, false);
        EXPECT_EQ(summary["updates"], 30);
        EXPECT_GE(summary["lost"], 1);
        expect_accounted(summary);
    }
}

TEST_F(Launch, ADeadWorkerIsGivenUpAndAnInterruptedRunGoesOn) {
    Background launched(
        dir_, "launch",
        launch({"--model", "mlp:300,300", "--wait-for", "2", "--straggle", "exp:5ms", "--updates", "1000000",
                "--eval-every", "5", "--heartbeat", "100ms", "--suspect-after", "1s", "--dead-after", "4s"}));
    ASSERT_TRUE(updated_to(5)) << launched.err();
    kill_victim();
    ASSERT_TRUE(wait_until([&] { return std::ranges::any_of(events("leave"), is_victims); })) << launched.err();
    ASSERT_TRUE(updated_to(events("update").size() + 10)) << launched.err();
    launched.send(SIGTERM);
    EXPECT_EQ(launched.wait(), 1) << launched.err();
    EXPECT_TRUE(std::ranges::any_of(events("suspect"), is_victims));
    const json summary = json::parse(launched.out(), nullptr, false);
    EXPECT_EQ(summary["outcome"], "interrupted") << launched.err();
    EXPECT_GE(summary["lost"], 1);
    expect_accounted(summary);

    const std::string further = std::to_string(summary["updates"].get<int>() + 10);
    const Ran resumed =
        run_program({"launch", "mpi", "--", "train", "--resume", run(), "--updates", further, "--json", "--quiet"});
    EXPECT_EQ(std::to_string(summary_of(resumed)["updates"].get<int>()), further);
    EXPECT_EQ(run_program({"replay", run()}).status, 0);
}

TEST_F(Launch, WithoutItsServerARunEnds) {
    Background launched(dir_, "launch", launch({"--updates", "1000000", "--eval-every", "5", "--straggle", "exp:5ms"}));
    ASSERT_TRUE(updated_to(5)) << launched.err();
    kill_rank(0);
    EXPECT_EQ(launched.wait(), 1) << launched.err();
    EXPECT_THAT(launched.err(), HasSubstr("the server (rank 0"));
}

TEST_F(Launch, TheStatusIsTheRuns) {
    std::vector<std::string> arguments = launch({});
    const Ran ended = run_program(arguments);
    EXPECT_EQ(summary_of(ended)["updates"], 40);
    const Ran again = run_program(arguments);
    EXPECT_EQ(again.status, 2);
    EXPECT_THAT(again.err, HasSubstr("already holds a run"));
    arguments.push_back("--polcy=sync");
    const Ran wrong = run_program(arguments);
    EXPECT_EQ(wrong.status, 2);
    EXPECT_THAT(wrong.err, HasSubstr("lategrad: --polcy: there is no such option"));
    EXPECT_THAT(wrong.err, Not(HasSubstr("rank 1: ")));
}

TEST_F(Launch, PrintsTheLineAndStartsNothing) {
    const Ran derived = run_program({"launch", "mpi", "--print", "--", "train", "--workers", "8", "--data", "a b"});
    EXPECT_EQ(derived.status, 0) << derived.err;
    EXPECT_THAT(derived.out, HasSubstr("--enable-recovery --mca pml ob1 --mca btl vader,self "));
    EXPECT_THAT(derived.out, HasSubstr(" -n 9 " + program_path() + " train --workers 8 --data 'a b'\n"));
    const Ran nodes = run_program({"launch", "mpi", "-n", "3", "--print", "--hosts", "a:2,b:1", "train"});
    EXPECT_THAT(nodes.out, HasSubstr(" --host a:2,b:1 -n 3 "));
    EXPECT_THAT(nodes.err, HasSubstr("several nodes"));
}

TEST_F(Launch, WhatCannotBeStartedIsSaidInALine) {
    const auto said = [](std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), {"launch", "mpi"});
        const Ran ran = run_program(arguments);
        EXPECT_EQ(ran.status, 2) << ran.err;
        return ran.err;
    };
    EXPECT_THAT(said({}), HasSubstr("expected what to run"));
    EXPECT_THAT(said({"compare"}), HasSubstr("compare does not run as several processes"));
    EXPECT_THAT(said({"-n", "1", "train"}), HasSubstr("-n 1: expected 2 or more"));
    EXPECT_THAT(said({"--host", "a", "train"}), HasSubstr("--host: there is no such option"));
    EXPECT_THAT(said({"train", "--workers", "many"}), HasSubstr("--workers many: "));
    EXPECT_THAT(said({"--mpirun", "/nowhere/mpirun", "train"}), HasSubstr("--mpirun /nowhere/mpirun: "));
}

} // namespace
} // namespace lategrad
