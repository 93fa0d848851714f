#include "tests/chaos/processes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <fstream>

#include "tests/files/temp_dir.h"

namespace lategrad::chaos {
namespace {

using namespace std::chrono_literals;

TEST(Processes, EndAsTheyDo) {
    const TempDir dir;
    Processes processes;
    const pid_t pid = processes.start({.command = {"/bin/sh", "-c", "echo word; exit 7"}, .log = dir / "log"});
    const auto exit = processes.wait(pid, WallClock::now() + 60s);
    ASSERT_TRUE(exit);
    EXPECT_EQ(exit->status, 7);
    EXPECT_FALSE(exit->signalled);
    std::string word;
    std::ifstream(dir / "log") >> word;
    EXPECT_EQ(word, "word");
    EXPECT_FALSE(processes.signal(pid, SIGKILL));
}

TEST(Processes, AreSignalledById) {
    const TempDir dir;
    Processes processes;
    const pid_t one = processes.start({.command = {"/bin/sleep", "600"}, .log = dir / "log"});
    const pid_t other = processes.start({.command = {"/bin/sleep", "600"}, .log = dir / "log"});
    EXPECT_FALSE(processes.wait(one, WallClock::now()));
    EXPECT_TRUE(processes.signal(one, SIGKILL));
    const auto exit = processes.wait(one, WallClock::now() + 60s);
    ASSERT_TRUE(exit);
    EXPECT_TRUE(exit->signalled);
    EXPECT_EQ(exit->status, 128 + SIGKILL);
    EXPECT_EQ(processes.running(), std::vector<pid_t>{other});
    EXPECT_GT(resident_bytes(other).value_or(0), 0u);
}

TEST(Processes, AreGoneWithTheirOwner) {
    const TempDir dir;
    pid_t pid = 0;
    {
        Processes processes;
        pid = processes.start({.command = {"/bin/sleep", "600"}, .log = dir / "log"});
        processes.signal(pid, SIGSTOP); // a stopped one too
        EXPECT_EQ(std::ranges::count(children(), pid), 1);
    }
    EXPECT_EQ(std::ranges::count(children(), pid), 0);
    EXPECT_NE(kill(pid, 0), 0);
}

TEST(Processes, ThatAreNoneEndWithAStatus) {
    const TempDir dir;
    Processes processes;
    const pid_t pid = processes.start({.command = {"/no/such/program"}, .log = dir / "log"});
    const auto exit = processes.wait(pid, WallClock::now() + 60s);
    ASSERT_TRUE(exit);
    EXPECT_EQ(exit->status, 127);
    std::string words;
    EXPECT_EQ(run({"/bin/sh", "-c", "echo out; echo err >&2; exit 3"}, &words), 3);
    EXPECT_EQ(words, "out\nerr\n");
}

} // namespace
} // namespace lategrad::chaos
