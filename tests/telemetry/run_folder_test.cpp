#include "lategrad/telemetry/run_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include "tests/files/temp_dir.h"
#include "tests/telemetry/example_run.h"
#include "tests/telemetry/file_size_limit.h"
#include "tests/telemetry/text_of.h"

namespace lategrad {
namespace {

const FingerprintFields kFingerprint = {{"compiler", "GCC 12"}, {"kernels", "AVX2"}};

RunFolder make_run(const std::filesystem::path& path, std::uint64_t bytes_needed = 0, RunFolder::Warn warn = {}) {
    return RunFolder::create(path, "policy = \"reuse\"\n", kFingerprint, bytes_needed, std::move(warn));
}

std::string refusal(const std::filesystem::path& path, std::uint64_t bytes_needed = 0) {
    return message_of([&] { make_run(path, bytes_needed); });
}

TEST(RunFolder, options_and_fingerprint_are_there_from_the_start) {
    const TempDir dir;
    const RunFolder folder = make_run(dir / "a/b/run");
    EXPECT_EQ(folder.path(), dir / "a/b/run");
    EXPECT_EQ(text_of(dir / "a/b/run/config.toml"), "policy = \"reuse\"\n");
    EXPECT_EQ(text_of(dir / "a/b/run/fingerprint.json"),
              "{\n  \"compiler\": \"GCC 12\",\n  \"kernels\": \"AVX2\"\n}\n");
    EXPECT_TRUE(exists(dir / "a/b/run/events.jsonl"));
    EXPECT_TRUE(exists(dir / "a/b/run/evaluations.jsonl"));
    EXPECT_FALSE(exists(folder.summary()));
}

TEST(RunFolder, an_empty_folder_and_one_with_other_files_will_do) {
    const TempDir dir;
    dir.write("notes.txt", "mine");
    make_run(dir.path());
    EXPECT_EQ(text_of(dir / "notes.txt"), "mine");
}

TEST(RunFolder, what_was_told_reads_back) {
    const TempDir dir;
    RunFolder folder = make_run(dir / "run");
    for (const RunEvent& event : example_run()) folder.tell(event);
    const Summary summary{.policy = "reuse", .updates = 2, .outcome = Outcome::updates};
    folder.finish(summary);
    EXPECT_FALSE(folder.damaged());

    const RecordedRun run = read_run(dir / "run");
    EXPECT_EQ(run.config_toml, "policy = \"reuse\"\n");
    EXPECT_EQ(run.fingerprint, kFingerprint);
    EXPECT_EQ(run.summary, summary);
    EXPECT_FALSE(run.truncated);
    EXPECT_EQ(run.evaluations,
              (std::vector<EvaluationLine>{{Version{1}, 1, 32, 0.5, 1.75}, {Version{2}, 2, 96, 0.375, 1.5}}));
    const auto told = example_run();
    ASSERT_EQ(run.events.size(), told.size());
    for (std::size_t i = 0; i < told.size(); ++i) EXPECT_EQ(to_json_line(run.events[i]), to_json_line(told[i]));
}

TEST(RunFolder, resumed_behind_any_event_it_is_the_one_that_never_stopped) {
    // An update more, so that one that is resumed between has a drop to tell.
    auto told = example_run();
    told.pop_back();
    told.back() = {at(3), UpdateEvent{.version = Version{2}}};
    const auto begin = [&](const std::filesystem::path& path) {
        RunFolder folder = make_run(path);
        for (const RunEvent& event : told) folder.tell(event);
        folder.finish({});
        return std::pair(text_of(folder.events()), text_of(folder.evaluations()));
    };
    for (std::size_t known = 0; known <= told.size(); ++known) {
        SCOPED_TRACE(known);
        const TempDir dir;
        const auto [events, evaluations] = begin(dir / "run");
        std::vector<RunEvent> kept;
        RunFolder folder =
            RunFolder::resume(dir / "run", "lr = 0.5\n", known, [&](const RunEvent& event) { kept.push_back(event); });
        EXPECT_EQ(kept.size(), known);
        EXPECT_FALSE(exists(folder.summary()));
        EXPECT_EQ(text_of(folder.config()), "lr = 0.5\n");
        EXPECT_EQ(text_of(folder.events()) + text_of(dir / "run/rolled-back-1.jsonl"), events);
        for (std::size_t i = known; i < told.size(); ++i) folder.tell(told[i]);
        folder.finish({});
        EXPECT_EQ(text_of(folder.events()), events);
        EXPECT_EQ(text_of(folder.evaluations()), evaluations);
    }
}

TEST(RunFolder, rolls_back_to_a_new_file_each_time_and_not_beyond_what_there_is) {
    const TempDir dir;
    RunFolder folder = make_run(dir / "run");
    for (const RunEvent& event : example_run()) folder.tell(event);
    folder.finish({});
    const auto resume = [&](std::uint64_t events) {
        RunFolder::resume(dir / "run", "", events, [](const RunEvent&) {}).finish({});
    };
    resume(9);
    resume(4);
    EXPECT_TRUE(exists(dir / "run/rolled-back-1.jsonl"));
    const std::string second = text_of(dir / "run/rolled-back-2.jsonl");
    EXPECT_EQ(std::count(second.begin(), second.end(), '\n'), 5);
    resume(4);
    EXPECT_FALSE(exists(dir / "run/rolled-back-3.jsonl"));
    EXPECT_EQ(message_of([&] { resume(5); }),
              "--resume " + (dir / "run").string() +
                  ": events.jsonl has 4 of the 5 events that the checkpoint knows; was it cut short?");
}

TEST(RunFolder, is_written_by_one_process_at_a_time) {
    const TempDir dir;
    const std::string refused =
        "--resume " + (dir / "run").string() + ": another process writes to this run; end it first";
    const auto resume = [&] { return RunFolder::resume(dir / "run", "", 0, [](const RunEvent&) {}); };
    {
        const RunFolder first = make_run(dir / "run");
        EXPECT_EQ(message_of(resume), refused);
    }
    const RunFolder second = resume();
    EXPECT_EQ(message_of(resume), refused);
}

TEST(RunFolder, no_incarnation_begins_twice) {
    const TempDir dir;
    RunFolder folder = make_run(dir / "run");
    EXPECT_EQ(folder.begin_incarnation(Incarnation{0}), Incarnation{1});
    EXPECT_EQ(folder.begin_incarnation(Incarnation{0}), Incarnation{2}) << "killed before it had a checkpoint";
    EXPECT_EQ(folder.begin_incarnation(Incarnation{7}), Incarnation{8});
    dir.write("run/incarnation", "many");
    EXPECT_THAT(message_of([&] { folder.begin_incarnation(Incarnation{0}); }), testing::HasSubstr("incarnation: "));
}

TEST(RunFolder, evaluation_lines_by_example) {
    const TempDir dir;
    RunFolder folder = make_run(dir / "run");
    folder.tell({at(2), Evaluation{Version{7}, at(1.5), 224, 0.25, 0.875}});
    folder.tell({at(3), Evaluation{Version{8}, at(2.5), 256, 0.25, {}}});
    EXPECT_EQ(text_of(folder.evaluations()),
              "{\"version\":7,\"seconds\":1.500000,\"examples\":224,\"accuracy\":0.875,\"loss\":0.25}\n"
              "{\"version\":8,\"seconds\":2.500000,\"examples\":256,\"accuracy\":null,\"loss\":0.25}\n");
}

TEST(RunFolder, an_update_tells_what_was_dropped_since_the_one_before) {
    const TempDir dir;
    RunFolder folder = make_run(dir / "run");
    const auto drop = [&](std::uint32_t worker) {
        folder.tell({at(0), ArriveEvent{WorkerId{worker}, Step{1}, Version{0}, Fate::drop, Reason::too_stale, 1, 1}});
    };
    const auto update = [&](std::uint64_t version) { folder.tell({at(0), UpdateEvent{.version = Version{version}}}); };
    drop(4);
    drop(5);
    update(3);
    update(4);
    folder.finish({});
    const std::string text = text_of(folder.events());
    EXPECT_THAT(text, testing::HasSubstr(R"("dropped":[{"worker":4,"step":1,"base_version":0,"reason":"too stale"},)"
                                         R"({"worker":5,"step":1,"base_version":0,"reason":"too stale"}]})"));
    EXPECT_THAT(text, testing::EndsWith("\"dropped\":[]}\n"));
}

TEST(RunFolder, lines_reach_the_disk_every_second_and_at_evaluations) {
    const TempDir dir;
    RunFolder folder = make_run(dir / "run");
    const auto lines = [&] {
        const std::string text = text_of(folder.events());
        return std::count(text.begin(), text.end(), '\n');
    };
    folder.tell({at(0.5), LeaveEvent{WorkerId{0}}});
    EXPECT_EQ(lines(), 0);
    folder.tell({at(1), LeaveEvent{WorkerId{0}}});
    EXPECT_EQ(lines(), 2);
    folder.tell({at(1.5), LeaveEvent{WorkerId{0}}});
    EXPECT_EQ(lines(), 2);
    folder.tell({at(1.5), Evaluation{}});
    EXPECT_EQ(lines(), 4);
    folder.tell({at(1.5), EndEvent{Outcome::updates}});
    EXPECT_EQ(lines(), 5);
}

TEST(RunFolder, refuses_a_folder_that_holds_a_run) {
    for (const char* name :
         {"config.toml", "events.jsonl", "evaluations.jsonl", "summary.json", "weights.safetensors"}) {
        const TempDir dir;
        dir.write(name, "old");
        EXPECT_EQ(refusal(dir.path()),
                  "--out " + dir.path().string() + ": already holds a run; choose another folder or remove it");
        EXPECT_EQ(text_of(dir / name), "old");
        EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1) << "something was left behind";
    }
}

TEST(RunFolder, refuses_a_path_that_cannot_be_a_folder) {
    const TempDir dir;
    const auto file = dir.write("file", "x");
    EXPECT_EQ(refusal(file), "--out " + file.string() + ": " + file.string() + " is not a folder; choose another one");
    EXPECT_EQ(refusal(file / "run"),
              "--out " + file.string() + "/run: " + file.string() + " is not a folder; choose another one");
    EXPECT_THAT(refusal("/proc/lategrad/run"),
                testing::StartsWith("--out /proc/lategrad/run: cannot make the folder /proc/lategrad: "));
    EXPECT_THAT(refusal(""), testing::HasSubstr("cannot make the folder"));
}

TEST(RunFolder, refuses_a_disk_without_room_and_leaves_nothing_behind) {
    const TempDir dir;
    EXPECT_THAT(refusal(dir / "a/run", std::uint64_t{1} << 60),
                testing::AllOf(testing::StartsWith("--out " + (dir / "a/run").string() + ": "),
                               testing::HasSubstr(" MiB free on its disk, the run needs 1099511627777 MiB; choose")));
    EXPECT_FALSE(exists(dir / "a"));
}

TEST(RunFolder, refuses_a_folder_in_which_it_cannot_write_and_leaves_nothing_behind) {
    const TempDir dir;
    const FileSizeLimit limit(4);
    EXPECT_THAT(refusal(dir / "run"), testing::StartsWith("--out " + (dir / "run").string() + ": cannot write "));
    EXPECT_FALSE(exists(dir / "run"));
}

/// A disk of its own, where the user may have one.
class SmallDisk {
  public:
    explicit SmallDisk(const char* size)
        : mounted_(::mount("tmpfs", dir_.path().c_str(), "tmpfs", 0, (std::string("size=") + size).c_str()) == 0) {}
    ~SmallDisk() {
        if (mounted_) ::umount(dir_.path().c_str());
    }
    SmallDisk(const SmallDisk&) = delete;
    SmallDisk& operator=(const SmallDisk&) = delete;
    bool mounted() const { return mounted_; }
    std::filesystem::path operator/(std::string_view name) const { return dir_ / name; }

  private:
    TempDir dir_;
    bool mounted_;
};

TEST(RunFolder, counts_what_is_free_on_the_disk) {
    const SmallDisk disk("4m");
    if (!disk.mounted()) GTEST_SKIP() << "only root may mount a disk";
    EXPECT_EQ(refusal(disk / "run", 20 << 20), "--out " + (disk / "run").string() +
                                                   ": 4 MiB free on its disk, the run needs 21 MiB; choose a folder on "
                                                   "another one");
    EXPECT_FALSE(exists(disk / "run"));
    EXPECT_EQ(refusal(disk / "run", 2 << 20), "");
}

TEST(RunFolder, a_disk_that_fills_up_does_not_end_the_run) {
    const TempDir dir;
    std::vector<std::string> warnings;
    RunFolder folder = make_run(dir / "run", 0, [&](const std::string& text) { warnings.push_back(text); });
    {
        const FileSizeLimit limit(100);
        for (int second = 1; second < 10; ++second) folder.tell({at(second), AssignEvent{}});
    }
    EXPECT_TRUE(folder.damaged());
    ASSERT_EQ(warnings.size(), 1u);
    EXPECT_EQ(warnings[0], (dir / "run").string() + ": cannot write the run's events any more: File too large; the run "
                                                    "goes on without recording them, and without checkpoints");
    folder.tell({at(20), AssignEvent{}});
    folder.finish({});
    EXPECT_EQ(warnings.size(), 1u);

    const RecordedRun run = read_run(dir / "run");
    EXPECT_TRUE(run.truncated);
    EXPECT_EQ(run.events.size(), 1u); // 71 bytes each
    EXPECT_TRUE(run.summary.has_value());
}

TEST(RunFolder, a_summary_that_cannot_be_written_is_an_error) {
    const TempDir dir;
    RunFolder folder = make_run(dir / "run");
    const FileSizeLimit limit(100);
    EXPECT_THAT(message_of<EnvironmentError>([&] { folder.finish({}); }), testing::HasSubstr("summary.json"));
    EXPECT_FALSE(exists(folder.summary()));
}

TEST(NewRunPath, has_date_model_and_policy_and_is_not_there_yet) {
    const TempDir dir;
    const auto before = std::filesystem::current_path();
    std::filesystem::current_path(dir.path());
    const std::chrono::system_clock::time_point when{std::chrono::seconds(1'767'268'800)};
    const auto name = [&](std::string_view model, std::string_view policy) {
        return new_run_path(model, policy, when).string();
    };
    EXPECT_THAT(name("lenet", "reuse"), testing::MatchesRegex("runs/2026010[12]-[0-9]{6}-lenet-reuse"));
    EXPECT_THAT(name("nets/my net.pt", "ssp:3"), testing::EndsWith("-my-net-ssp-3"));
    EXPECT_THAT(name("mlp:800,500", "async"), testing::EndsWith("-mlp-800-500-async"));
    make_run(name("lenet", "reuse"));
    EXPECT_THAT(name("lenet", "reuse"), testing::EndsWith("-lenet-reuse-2"));
    make_run(name("lenet", "reuse"));
    EXPECT_THAT(name("lenet", "reuse"), testing::EndsWith("-lenet-reuse-3"));
    std::filesystem::current_path(before);
}

} // namespace
} // namespace lategrad
