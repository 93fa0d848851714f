/// lategrad serve, work and keys: a run whose processes come, go, die and come back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/mount.h>

#include <memory>

#include <fmt/format.h>

#include "lategrad/files/safetensors.h"
#include "tests/cli/background.h"
#include "tests/cli/small_run.h"

namespace lategrad {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::vector<std::string> serving(const TempDir& dir, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"serve",
                                          "--listen",
                                          "tcp://127.0.0.1:0",
                                          "--data",
                                          write_blobs(dir).string(),
                                          "--model",
                                          "mlp:20",
                                          "--out",
                                          (dir / "run").string(),
                                          "--batch-size",
                                          "64",
                                          "--lr",
                                          "0.1",
                                          "--workers",
                                          "3",
                                          "--wait-for",
                                          "2",
                                          "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
}

/// Where it listens, by its own words; empty where it does not.
std::string address_of(const Background& server) {
    if (!server.said("listening at ")) return "";
    const std::string err = server.err();
    const auto begin = err.find("listening at ") + 13;
    return err.substr(begin, err.find_first_of(" ;\n", begin) - begin);
}

std::unique_ptr<Background> worker(const TempDir& dir, const std::string& name, const std::string& address,
                                   std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"work", "--connect", address};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return std::make_unique<Background>(dir, name, arguments);
}

std::string events(const TempDir& dir) {
    return text_in(dir / "run/events.jsonl");
}

TEST(Elastic, WorkersNeedAnAddressAndAKey) {
    const TempDir dir;
    const std::string keys = (dir / "keys").string();
    ASSERT_EQ(run_program({"keys", "new", keys}).status, 0);
    Background server(dir, "server", serving(dir, {"--keys", keys, "--updates", "60"}));
    const std::string address = address_of(server);
    const auto first = worker(dir, "first", address, {"--key", keys + "/worker.key"});
    const auto without = worker(dir, "without", address);
    EXPECT_EQ(without->wait(), 2) << without->err();
    EXPECT_THAT(without->err(), HasSubstr("keys"));
    EXPECT_THAT(events(dir), testing::Not(HasSubstr(fmt::format(":{}\"", without->pid()))));
    const auto second = worker(dir, "second", address, {"--key", keys + "/worker.key"});
    EXPECT_EQ(server.wait(), 0) << server.err();
    EXPECT_EQ(first->wait(), 0) << first->err();
    EXPECT_EQ(second->wait(), 0) << second->err();
    const json summary = json::parse(server.out(), nullptr, false);
    EXPECT_EQ(summary["updates"], 60);
    EXPECT_EQ(summary["transport"], "ZeroMQ");
    for (const auto& each : {&first, &second}) {
        EXPECT_THAT(events(dir), HasSubstr(fmt::format(":{}\"}}", (*each)->pid()))) << "where it runs";
    }
    expect_accounted(summary);
    const Ran replayed = run_program({"replay", (dir / "run").string()});
    EXPECT_EQ(replayed.status, 0) << replayed.out << replayed.err;
}

TEST(Elastic, AServerThatIsKilledGoesOnFromItsCheckpoint) {
    for (const char* codec : {"none", "topk:0.1"}) {
        const TempDir dir;
        const std::vector<std::string> options = {"--updates",  "400", "--checkpoint-every", "20",     "--codec", codec,
                                                  "--momentum", "0.5", "--straggle",         "exp:5ms"};
        auto server = std::make_unique<Background>(dir, "server", serving(dir, options));
        const std::string address = address_of(*server);
        std::vector<std::unique_ptr<Background>> workers;
        for (const char* name : {"a", "b", "c"}) workers.push_back(worker(dir, name, address));
        ASSERT_TRUE(wait_until([&] { return std::filesystem::exists(dir / "run/checkpoints/000000000060"); }))
            << server->err();
        server->send(SIGKILL);
        EXPECT_EQ(server->wait(), 128 + SIGKILL);
        Background resumed(dir, "resumed",
                           {"serve", "--resume", (dir / "run").string(), "--listen", address, "--json"});
        EXPECT_EQ(resumed.wait(), 0) << resumed.err();
        for (const auto& each : workers) {
            EXPECT_EQ(each->wait(), 0) << each->err();
            EXPECT_THAT(each->err(), HasSubstr(" again"));
        }
        const json summary = json::parse(resumed.out(), nullptr, false);
        EXPECT_EQ(summary["updates"], 400);
        expect_accounted(summary);
        EXPECT_THAT(events(dir), HasSubstr("\"type\":\"resume\""));
        EXPECT_TRUE(std::filesystem::exists(dir / "run/rolled-back-1.jsonl"));
        const Ran replayed = run_program({"replay", (dir / "run").string()});
        EXPECT_EQ(replayed.status, 0) << replayed.out << replayed.err;
    }
}

TEST(Elastic, AWorkerThatIsKilledIsNotWaitedFor) {
    const TempDir dir;
    Background server(
        dir, "server",
        serving(dir, {"--policy", "sync", "--time-limit", "60", "--min-workers", "2", "--straggle", "exp:5ms"}));
    const std::string address = address_of(server);
    const auto first = worker(dir, "first", address);
    ASSERT_TRUE(first->said("working as worker 0"));
    const auto second = worker(dir, "second", address);
    ASSERT_TRUE(server.said("worker 1 joined"));
    second->send(SIGKILL);
    ASSERT_TRUE(server.said("worker 1 left")) << server.err();
    ASSERT_TRUE(server.said("paused"));
    const auto third = worker(dir, "third", address);
    ASSERT_TRUE(server.said("goes on"));
    third->send(SIGTERM);
    EXPECT_EQ(third->wait(), 1);
    server.send(SIGTERM);
    EXPECT_EQ(server.wait(), 1) << server.err();
    EXPECT_EQ(first->wait(), 0) << "the run is over";
    const json summary = json::parse(server.out(), nullptr, false);
    EXPECT_EQ(summary["outcome"], "interrupted");
    expect_accounted(summary);
}

TEST(Elastic, ASilentWorkerIsHeardAgain) {
    const TempDir dir;
    Background server(dir, "server",
                      serving(dir, {"--policy", "sync", "--time-limit", "60", "--heartbeat", "50ms", "--suspect-after",
                                    "200ms", "--min-workers", "2", "--straggle", "exp:5ms"}));
    const std::string address = address_of(server);
    const auto first = worker(dir, "first", address); // the heartbeat is the run's
    ASSERT_TRUE(first->said("working as worker 0"));
    const auto second = worker(dir, "second", address);
    ASSERT_TRUE(server.said("worker 1 joined"));
    second->send(SIGSTOP);
    ASSERT_TRUE(server.said("worker 1 is silent")) << server.err();
    second->send(SIGCONT);
    ASSERT_TRUE(server.said("worker 1 is heard again")) << server.err();
    server.send(SIGTERM);
    EXPECT_EQ(server.wait(), 1);
    EXPECT_EQ(first->wait(), 0);
    EXPECT_EQ(second->wait(), 0);
    EXPECT_THAT(events(dir), HasSubstr("\"type\":\"suspect\""));
    expect_accounted(json::parse(server.out(), nullptr, false));
}

TEST(Elastic, AWorkerGivesUpAfterAWhile) {
    const Ran ran = run_program({"work", "--connect", "tcp://127.0.0.1:1", "--reconnect-for", "1ms"});
    EXPECT_EQ(ran.status, 1);
    EXPECT_THAT(ran.err, HasSubstr("tcp://127.0.0.1:1: "));
    EXPECT_THAT(ran.err, HasSubstr("given up after"));
}

TEST(Elastic, OtherDataIsRefusedInWords) {
    const TempDir dir;
    const TempDir elsewhere;
    write_blobs(elsewhere, 300);
    Background server(dir, "server", serving(dir, {"--updates", "10"}));
    const auto other = worker(dir, "other", address_of(server), {"--data", (elsewhere / "blobs.safetensors").string()});
    EXPECT_EQ(other->wait(), 2);
    EXPECT_THAT(other->err(), HasSubstr("training data: "));
    EXPECT_THAT(other->err(), HasSubstr("on the server"));
}

TEST(Elastic, ATorchScriptModelTravels) {
    const TempDir dir;
    if (std::system(("/usr/bin/python3 -c \"import torch; m = torch.nn.Sequential(torch.nn.Linear(40, 10)); "
                     "torch.jit.script(m).save('" +
                     (dir / "net.pt").string() + "')\" 2>/dev/null")
                        .c_str()) != 0) {
        GTEST_SKIP() << "no python3-torch to script a model with";
    }
    Background server(dir, "server", serving(dir, {"--updates", "30", "--model", (dir / "net.pt").string()}));
    const std::string address = address_of(server);
    const auto first = worker(dir, "first", address);
    const auto second = worker(dir, "second", address);
    EXPECT_EQ(first->wait(), 0) << first->err();
    EXPECT_EQ(second->wait(), 0) << second->err();
    EXPECT_EQ(server.wait(), 0) << server.err();
}

TEST(Elastic, WhatNobodyIsAtHomeInIsDrawnByTheOthers) {
    const TempDir dir;
    Background server(dir, "server", serving(dir, {"--updates", "150", "--workers", "3", "--reassign-after", "1ms"}));
    const std::string address = address_of(server);
    const auto first = worker(dir, "first", address);
    const auto second = worker(dir, "second", address);
    EXPECT_EQ(server.wait(), 0) << server.err();
    EXPECT_THAT(server.err(), HasSubstr("part 2 of the data is worker "));
    EXPECT_EQ(json::parse(server.out(), nullptr, false)["data_coverage"], 1.0);
    const Ran inspected = run_program({"inspect", (dir / "run").string()});
    EXPECT_THAT(inspected.out, HasSubstr("coverage      100.0 % of the training examples drawn"));
}

TEST(Elastic, ASignalEndsItWithACheckpointAndGoodbyes) {
    const TempDir dir;
    Background server(dir, "server", serving(dir, {"--updates", "1000000", "--checkpoint-every", "1000000"}));
    const std::string address = address_of(server);
    const auto first = worker(dir, "first", address);
    const auto second = worker(dir, "second", address);
    ASSERT_TRUE(wait_until([&] { return events(dir).find("\"type\":\"update\"") != std::string::npos; }));
    server.send(SIGTERM);
    EXPECT_EQ(server.wait(), 1) << server.err();
    EXPECT_EQ(first->wait(), 0) << first->err();
    EXPECT_EQ(second->wait(), 0) << second->err();
    const json summary = json::parse(server.out(), nullptr, false);
    EXPECT_EQ(summary["outcome"], "interrupted");
    const auto last = dir / "run/checkpoints" / fmt::format("{:012}", summary["updates"].get<std::uint64_t>());
    EXPECT_EQ(run_program({"inspect", last.string()}).status, 0);
}

TEST(Elastic, ASignalEndsAServerWhoseWorkerIsStopped) {
    const TempDir dir;
    Background server(dir, "server", serving(dir, {"--time-limit", "60", "--min-workers", "1", "--wait-for", "1"}));
    const std::string address = address_of(server);
    const auto first = worker(dir, "first", address);
    const auto second = worker(dir, "second", address);
    ASSERT_TRUE(server.said("worker 1 joined"));
    second->send(SIGSTOP);
    server.send(SIGTERM);
    EXPECT_EQ(server.wait(), 1) << server.err();
    EXPECT_EQ(json::parse(server.out(), nullptr, false)["outcome"], "interrupted");
    EXPECT_EQ(first->wait(), 0) << first->err();
}

TEST(Elastic, ASignalEndsAWorkerWhoseServerIsStopped) {
    const TempDir dir;
    Background server(dir, "server", serving(dir, {"--time-limit", "60", "--min-workers", "1", "--wait-for", "1"}));
    const std::string address = address_of(server);
    const auto working = worker(dir, "working", address);
    ASSERT_TRUE(working->said("working as worker 0"));
    server.send(SIGSTOP);
    const auto connecting = worker(dir, "connecting", address);
    working->send(SIGTERM);
    EXPECT_EQ(working->wait(), 1) << working->err();
    connecting->send(SIGTERM);
    EXPECT_NE(connecting->wait(), -1) << connecting->err(); // perhaps before it heard signals
}

TEST(Elastic, ASecondSignalEndsItAtOnce) {
    const TempDir dir;
    Background server(dir, "server", serving(dir, {}));
    ASSERT_NE(address_of(server), "");
    server.send(SIGSTOP); // so that it finds both
    server.send(SIGINT);
    server.send(SIGTERM);
    server.send(SIGCONT);
    EXPECT_EQ(server.wait(), 128 + SIGTERM);
}

/// A file system of a few pages, in place of a folder.
class SmallDisk {
  public:
    SmallDisk(const std::filesystem::path& folder, const char* size)
        : folder_(folder),
          mounted_(::mount("tmpfs", folder.c_str(), "tmpfs", 0, size) == 0) {}
    ~SmallDisk() {
        if (mounted_) ::umount2(folder_.c_str(), MNT_DETACH);
    }
    SmallDisk(const SmallDisk&) = delete;
    SmallDisk& operator=(const SmallDisk&) = delete;
    bool mounted() const { return mounted_; }
    void grow(const char* size) { EXPECT_EQ(::mount("tmpfs", folder_.c_str(), "tmpfs", MS_REMOUNT, size), 0); }

  private:
    std::filesystem::path folder_;
    bool mounted_;
};

TEST(Elastic, AFullDiskDoesNotEndTheRunAndIsWrittenToWhenThereIsRoom) {
    const TempDir dir;
    Background server(dir, "server", serving(dir, {"--updates", "1000000", "--checkpoint-every", "20"}));
    const std::string address = address_of(server);
    const auto checkpoints = dir / "run/checkpoints";
    ASSERT_TRUE(wait_until([&] { return std::filesystem::exists(checkpoints); }));
    SmallDisk disk(checkpoints, "size=4k");
    if (!disk.mounted()) GTEST_SKIP() << "file systems cannot be mounted here";
    const auto first = worker(dir, "first", address);
    const auto second = worker(dir, "second", address);
    ASSERT_TRUE(server.said("No space left on device")) << server.err();
    EXPECT_THAT(server.err(), HasSubstr("the run goes on"));
    disk.grow("size=16m");
    ASSERT_TRUE(wait_until([&] { return !std::filesystem::is_empty(checkpoints); }));
    server.send(SIGTERM);
    EXPECT_EQ(server.wait(), 1) << server.err();
    EXPECT_EQ(json::parse(server.out(), nullptr, false)["outcome"], "interrupted");
    for (const auto& left : std::filesystem::directory_iterator(checkpoints)) {
        EXPECT_EQ(run_program({"inspect", left.path().string()}).status, 0) << left.path();
    }
}

TEST(Elastic, AForbiddenDiskDoesNotEndTheRun) {
    const TempDir dir;
    Background server(dir, "server", serving(dir, {"--updates", "120", "--checkpoint-every", "20"}));
    const std::string address = address_of(server);
    // In place of the folder, so that no checkpoint can be written.
    ASSERT_TRUE(wait_until([&] { return std::filesystem::exists(dir / "run/checkpoints"); }));
    std::filesystem::remove_all(dir / "run/checkpoints");
    std::ofstream(dir / "run/checkpoints") << "a file";
    const auto first = worker(dir, "first", address);
    const auto second = worker(dir, "second", address);
    EXPECT_EQ(server.wait(), 0) << server.err();
    EXPECT_THAT(server.err(), HasSubstr("no checkpoint: "));
    EXPECT_EQ(first->wait(), 0);
    EXPECT_EQ(second->wait(), 0);
}

TEST(Resume, GoesOnInThreads) {
    const TempDir dir;
    const json begun = summary_of(run_program(small_run(dir, "run", {"--momentum", "0.9"})));
    EXPECT_EQ(begun["updates"], 40);
    const std::string run = (dir / "run").string();
    const json ended = summary_of(run_program({"train", "--resume", run, "--updates", "70", "--json", "--quiet"}));
    EXPECT_EQ(ended["updates"], 70);
    expect_accounted(ended);
    const Ran replayed = run_program({"replay", run});
    EXPECT_EQ(replayed.status, 0) << replayed.out << replayed.err;
}

TEST(Resume, ADamagedCheckpointIsNamedAndTheOneBeforeItUsed) {
    const TempDir dir;
    summary_of(run_program(small_run(dir, "run", {"--checkpoint-every", "10"})));
    const std::string run = (dir / "run").string();
    const auto newest = dir / "run/checkpoints/000000000040/state.bin";
    std::string state = text_in(newest);
    state[state.size() / 2] ^= 1;
    const Ran whole = run_program({"inspect", newest.parent_path().string()});
    EXPECT_EQ(whole.status, 0) << whole.err;
    EXPECT_THAT(whole.out, HasSubstr("version 40"));
    std::ofstream(newest, std::ios::binary) << state;
    const Ran broken = run_program({"inspect", newest.parent_path().string()});
    EXPECT_EQ(broken.status, 2);
    EXPECT_THAT(broken.err, HasSubstr("state.bin is damaged"));
    const Ran ran = run_program({"train", "--resume", run, "--updates", "45", "--json", "--quiet"});
    EXPECT_EQ(summary_of(ran)["updates"], 45);
    EXPECT_THAT(ran.err, HasSubstr("state.bin is damaged"));
    EXPECT_EQ(run_program({"replay", run}).status, 0);
}

TEST(Resume, ASimulationIsTheOneThatNeverStopped) {
    const TempDir dir;
    const auto simulated = [&](const std::string& name, std::vector<std::string> more) {
        std::vector<std::string> arguments =
            small_run(dir, name,
                      {"--workers", "4", "--wait-for", "2", "--straggle", "exp:20ms", "--codec", "topk:0.2",
                       "--momentum", "0.5", "--failures", "mtbf:2s,rejoin:100ms", "--eval-every", "8"});
        arguments[0] = "simulate";
        arguments.insert(arguments.end(), more.begin(), more.end());
        return arguments;
    };
    const json whole = summary_of(run_program(simulated("whole", {"--checkpoint-every", "0"})));
    summary_of(run_program(simulated("parts", {"--updates", "23", "--checkpoint-every", "10"})));
    const json parts = summary_of(
        run_program({"simulate", "--resume", (dir / "parts").string(), "--updates", "40", "--json", "--quiet"}));
    EXPECT_EQ(parts, whole);
    EXPECT_EQ(text_in(dir / "parts/events.jsonl"), text_in(dir / "whole/events.jsonl"));
    EXPECT_EQ(text_in(dir / "parts/weights.safetensors"), text_in(dir / "whole/weights.safetensors"));
    const Ran other = run_program({"train", "--resume", (dir / "parts").string()});
    EXPECT_EQ(other.status, 2);
    EXPECT_THAT(other.err, HasSubstr("simulation"));
}

TEST(Resume, ASimulationGoesFurtherThanItWasTo) {
    const TempDir dir;
    const auto simulated = [&](const std::string& name, std::vector<std::string> more) {
        auto arguments = small_run(dir, name, {"--workers", "4", "--wait-for", "2", "--straggle", "exp:20ms"});
        arguments[0] = "simulate";
        arguments.insert(arguments.end(), more.begin(), more.end());
        return arguments;
    };
    summary_of(run_program(simulated("parts", {"--checkpoint-every", "10"})));
    const json parts = summary_of(
        run_program({"simulate", "--resume", (dir / "parts").string(), "--updates", "70", "--json", "--quiet"}));
    EXPECT_EQ(parts["updates"], 70);
    EXPECT_EQ(parts, summary_of(run_program(simulated("whole", {"--updates", "70"}))));
    EXPECT_EQ(text_in(dir / "parts/events.jsonl"), text_in(dir / "whole/events.jsonl"));
}

TEST(Resume, WhatDecidesTheUpdatesStaysAsItWas) {
    const TempDir dir;
    summary_of(run_program(small_run(dir, "run", {})));
    const std::string run = (dir / "run").string();
    const auto files = [&] {
        return text_in(dir / "run/config.toml") + text_in(dir / "run/events.jsonl") + text_in(dir / "run/summary.json");
    };
    const std::string before = files();
    const auto refused = [&](std::vector<std::string> more, const std::string& says) {
        std::vector<std::string> arguments = {"train", "--resume", run};
        arguments.insert(arguments.end(), more.begin(), more.end());
        const Ran ran = run_program(arguments);
        EXPECT_EQ(ran.status, 2);
        EXPECT_THAT(ran.err, HasSubstr(says));
        EXPECT_EQ(files(), before) << "nothing is overwritten";
    };
    refused({"--lr", "0.1"}, "--lr was 0.5, and is 0.1; what decides a run's updates stays as it was");
    refused({"--codec", "bf16", "--momentum", "0.5"},
            "--codec was \"none\", and is \"bf16\"; --momentum was 0, and is 0.5");
    const TempDir elsewhere;
    refused({"--data", write_blobs(elsewhere, 300).string()}, "training data: ");
    EXPECT_EQ(summary_of(run_program({"train", "--resume", run, "--updates", "50", "--json", "--quiet"}))["updates"],
              50);
    const auto moved = elsewhere / "moved.safetensors";
    std::filesystem::rename(dir / "blobs.safetensors", moved);
    EXPECT_EQ(summary_of(run_program({"train", "--resume", run, "--updates", "60", "--data", moved.string(), "--json",
                                      "--quiet"}))["updates"],
              60);
}

TEST(Resume, OfNoRunIsRefused) {
    const TempDir dir;
    const Ran ran = run_program({"train", "--resume", (dir / "nothing").string()});
    EXPECT_EQ(ran.status, 2);
    EXPECT_THAT(ran.err, HasSubstr("nothing: no run folder"));
}

} // namespace
} // namespace lategrad
