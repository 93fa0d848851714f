/// A writer that is killed at any instruction leaves a whole checkpoint.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>

#include <sys/wait.h>
#include <unistd.h>

#include "lategrad/core/random.h"
#include "tests/checkpoint/small_run.h"
#include "tests/files/temp_dir.h"

namespace lategrad {
namespace {

constexpr std::size_t kFloats = 20'000;

/// Saves version after version until it is killed; every third one twice.
[[noreturn]] void write_until_killed(const std::filesystem::path& path, std::uint64_t version) {
    try {
        SmallRun run(kFloats);
        CheckpointFolder folder(path, 2);
        for (;; ++version) {
            run.advance_to(version);
            folder.save(run.contents());
            if (version % 3 == 0) folder.save(run.contents());
        }
    } catch (...) {
    }
    std::_Exit(1);
}

/// Until there is one of a later version, so that the test gets on however slow the disk is.
void wait_for_one_after(const std::filesystem::path& path, std::uint64_t version) {
    constexpr int kPollsMax = 60'000;
    for (int i = 0; i < kPollsMax; ++i) {
        const auto found = find_checkpoints(path);
        if (!found.empty() && found.front().version > Version{version}) return;
        ::usleep(1000);
    }
}

TEST(CheckpointFolder, HoldsAWholeOneWhereverItsWriterIsKilled) {
    const TempDir dir;
    const auto path = dir / "checkpoints";
    {
        SmallRun run(kFloats);
        run.advance_to(1);
        CheckpointFolder(path, 2).save(run.contents());
    }
    RandomStream random(1, Purpose::test);
    std::uint64_t version = 1;
    for (int kill = 0; kill < 40; ++kill) {
        const pid_t child = ::fork();
        ASSERT_GE(child, 0);
        if (child == 0) write_until_killed(path, version); // again, and on from there
        if (kill % 4 == 0) wait_for_one_after(path, version);
        ::usleep(static_cast<useconds_t>(random.below(100'000)));
        ASSERT_EQ(::kill(child, SIGKILL), 0);
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFSIGNALED(status)) << "it ended by itself with status " << WEXITSTATUS(status);

        std::vector<std::string> warnings;
        const Checkpoint checkpoint = open_newest(path, [&](const std::string& text) { warnings.push_back(text); });
        EXPECT_THAT(warnings, testing::IsEmpty());
        const std::uint64_t newest = checkpoint.summary().version.value();
        ASSERT_GE(newest, version) << kill;
        SmallRun resumed(kFloats);
        resumed.resume(checkpoint);
        ASSERT_TRUE(resumed.is_at(newest)) << kill;
        version = newest;
    }
    EXPECT_GT(version, 10u) << "a child in four finishes one at least";
    // All that the killed ones left goes with the next writer.
    SmallRun run(kFloats);
    run.advance_to(version);
    CheckpointFolder(path, 1).save(run.contents());
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(path), {}), 1);
}

} // namespace
} // namespace lategrad
