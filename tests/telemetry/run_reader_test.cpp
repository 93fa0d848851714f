#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lategrad/telemetry/run_folder.h"
#include "tests/files/temp_dir.h"

namespace lategrad {
namespace {

constexpr const char* kLeave = "{\"type\":\"leave\",\"seconds\":1.000000,\"worker\":3}\n";

/// A run of two events and an evaluation, in files that tests change.
class RunReader : public testing::Test {
  protected:
    RunReader() {
        dir.write("config.toml", "");
        dir.write("fingerprint.json", "{}");
        dir.write("events.jsonl", std::string(kLeave) + kLeave);
        dir.write("evaluations.jsonl",
                  "{\"version\":7,\"seconds\":1.5,\"examples\":224,\"accuracy\":0.875,\"loss\":0.25}\n");
    }

    std::string complaint() const {
        return message_of([this] { read_run(dir.path()); });
    }
    std::string at(std::string_view place) const { return (dir / place).string() + ": "; }

    TempDir dir;
};

TEST_F(RunReader, a_run_that_did_not_end_has_no_summary) {
    const RecordedRun run = read_run(dir.path());
    EXPECT_EQ(run.events.size(), 2u);
    EXPECT_EQ(run.evaluations.size(), 1u);
    EXPECT_FALSE(run.summary);
    EXPECT_FALSE(run.truncated);
}

TEST_F(RunReader, a_last_line_cut_short_is_left_out_wherever_it_is_cut) {
    const std::string line(kLeave);
    for (std::size_t bytes = 1; bytes + 1 < line.size(); ++bytes) {
        dir.write("events.jsonl", line + line.substr(0, bytes));
        const RecordedRun run = read_run(dir.path());
        EXPECT_TRUE(run.truncated) << bytes;
        EXPECT_EQ(run.events.size(), 1u) << bytes;
    }
}

TEST_F(RunReader, a_last_line_that_lacks_only_its_newline_counts) {
    const std::string line(kLeave);
    dir.write("events.jsonl", line + line.substr(0, line.size() - 1));
    const RecordedRun run = read_run(dir.path());
    EXPECT_FALSE(run.truncated);
    EXPECT_EQ(run.events.size(), 2u);
}

TEST_F(RunReader, the_last_evaluation_may_be_cut_short_too) {
    dir.write("evaluations.jsonl", "{\"version\":7,");
    const RecordedRun run = read_run(dir.path());
    EXPECT_TRUE(run.truncated);
    EXPECT_TRUE(run.evaluations.empty());
}

TEST_F(RunReader, a_damaged_line_is_named) {
    dir.write("events.jsonl", std::string(kLeave) + "{\"type\":\n" + kLeave);
    EXPECT_EQ(complaint(), at("events.jsonl:2") + "not JSON at byte 9");
    dir.write("events.jsonl", std::string(kLeave) + kLeave + "{}\n");
    EXPECT_EQ(complaint(), at("events.jsonl:3") + "field \"seconds\" is missing");
}

TEST_F(RunReader, a_damaged_evaluation_is_named) {
    dir.write("evaluations.jsonl", "{\"version\":\"x\"}\n");
    EXPECT_EQ(complaint(), at("evaluations.jsonl:1") + "field \"version\" is not a whole number");
}

TEST_F(RunReader, other_damaged_files_are_named) {
    dir.write("fingerprint.json", "{\"threads\": 2}");
    EXPECT_EQ(complaint(), at("fingerprint.json") + "field \"threads\" is not a text");
    dir.write("fingerprint.json", "{}");
    dir.write("summary.json", "{");
    EXPECT_EQ(complaint(), at("summary.json") + "not JSON at byte 2");
}

TEST_F(RunReader, missing_files_are_named) {
    std::filesystem::remove(dir / "events.jsonl");
    EXPECT_EQ(complaint(), at("events.jsonl") + "cannot be opened; is it in a run folder?");
    std::filesystem::remove(dir / "config.toml");
    EXPECT_THAT(complaint(), testing::EndsWith(": no run folder: it has no config.toml"));
}

TEST_F(RunReader, events_can_be_read_one_by_one) {
    int count = 0;
    EXPECT_FALSE(read_events(dir / "events.jsonl", [&](const RunEvent&) { ++count; }));
    EXPECT_EQ(count, 2);
    // What the reader's user complains of is not the file's fault, even in a last line without its newline.
    dir.write("events.jsonl", "{\"type\":\"leave\",\"seconds\":1,\"worker\":3}");
    EXPECT_THROW(read_events(dir / "events.jsonl", [](const RunEvent&) { throw InputError("no"); }), InputError);
}

} // namespace
} // namespace lategrad
