#include "tests/chaos/run_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <limits>

#include "lategrad/files/safetensors.h"
#include "tests/files/temp_dir.h"

namespace lategrad::chaos {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

void append(const std::filesystem::path& path, const std::string& text) {
    std::ofstream(path, std::ios::app | std::ios::binary) << text;
}

std::string join(int worker) {
    return R"({"type":"join","seconds":0.0,"worker":)" + std::to_string(worker) + ",\"examples\":8}\n";
}

TEST(EventTail, ReadsWholeLinesAsTheyCome) {
    const TempDir dir;
    EventTail tail(dir / "events.jsonl", 1);
    int lines = 0;
    const auto count = [&](const Line&) { ++lines; };
    EXPECT_FALSE(tail.read(count)); // it is not there yet
    append(dir / "events.jsonl", join(0) + R"({"type":"join","sec)");
    EXPECT_TRUE(tail.read(count));
    EXPECT_EQ(lines, 1);
    EXPECT_EQ(tail.unfinished(), R"({"type":"join","sec)");
    append(dir / "events.jsonl", "onds\":0.0,\"worker\":1,\"examples\":8}\n" + join(2));
    EXPECT_TRUE(tail.read(count));
    EXPECT_EQ(lines, 3);
    EXPECT_EQ(tail.checker().active(), 3u);
    EXPECT_EQ(tail.unfinished(), "");
    EXPECT_THAT(tail.violations(), IsEmpty());
}

TEST(EventTail, NamesALineThatCannotBeRead) {
    const TempDir dir;
    EventTail tail(dir / "events.jsonl", 1);
    append(dir / "events.jsonl", join(0) + "{\"type\":\"jo" + join(1));
    tail.read([](const Line&) {});
    ASSERT_EQ(tail.violations().size(), 1u);
    EXPECT_EQ(tail.violations()[0].line, 2u);
}

TEST(EventTail, GoesBackWithAServerThatIsResumed) {
    const TempDir dir;
    const auto path = dir / "events.jsonl";
    const std::string kept = join(0) + "{\"type\":\"checkpoint\",\"version\":0}\n";
    EventTail tail(path, 1);
    std::vector<std::string> told;
    const auto each = [&](const Line& line) {
        if (const auto* event = std::get_if<RunEvent>(&line)) {
            told.push_back(std::to_string(std::get<JoinEvent>(event->body).worker.value()));
        } else {
            told.emplace_back(std::holds_alternative<ResumeLine>(line) ? "resume" : "checkpoint");
        }
    };
    append(path, kept + join(1) + R"({"type":"jo)");
    tail.read(each);
    tail.expect_resume();
    EXPECT_FALSE(tail.read(each)); // as the killed server left it
    std::filesystem::remove(path);
    EXPECT_FALSE(tail.read(each));
    append(path, kept);
    EXPECT_FALSE(tail.read(each));
    append(path, "{\"type\":\"resume\",\"version\":0}\n" + join(0) + join(1));
    EXPECT_TRUE(tail.read(each));
    EXPECT_FALSE(tail.resuming());
    EXPECT_THAT(told, ElementsAre("0", "checkpoint", "1", "resume", "0", "1"));
    EXPECT_THAT(tail.checker().violations(), IsEmpty());
    EXPECT_THAT(tail.violations(), IsEmpty());
    EXPECT_EQ(tail.checker().lines(), 5u);
}

TEST(EventTail, IsNotMisledByTheServerBeforeTheLast) {
    const TempDir dir;
    const auto path = dir / "events.jsonl";
    const auto resume = [](int incarnation) {
        return R"({"type":"resume","incarnation":)" + std::to_string(incarnation) + ",\"version\":0}\n";
    };
    const auto write = [&](const std::string& text) { std::ofstream(path, std::ios::binary) << text; };
    const std::string kept = join(0) + "{\"type\":\"checkpoint\",\"version\":0}\n";
    EventTail tail(path, 1);
    const auto each = [](const Line&) {};
    write(kept);
    tail.read(each);
    for (const int incarnation : {1, 2}) {
        tail.expect_resume();
        write(kept + (incarnation == 2 ? resume(1) : "") + resume(incarnation));
        ASSERT_TRUE(tail.read(each));
    }
    tail.expect_resume();
    write(kept + resume(1)); // the second one made no checkpoint: its resume is taken back, and the third one's to come
    EXPECT_FALSE(tail.read(each));
    EXPECT_TRUE(tail.resuming());
    write(kept + resume(1) + resume(3));
    EXPECT_TRUE(tail.read(each));
    EXPECT_FALSE(tail.resuming());
    EXPECT_THAT(tail.violations(), IsEmpty());
}

TEST(EventTail, KeepsWhatWasWrongInWhatIsTakenBack) {
    const TempDir dir;
    EventTail tail(dir / "events.jsonl", 1);
    const std::string kept = join(0) + "{\"type\":\"checkpoint\",\"version\":0}\n";
    append(dir / "events.jsonl", kept + join(0));
    tail.read([](const Line&) {});
    EXPECT_EQ(tail.checker().violations().size(), 1u);
    tail.expect_resume();
    std::filesystem::remove(dir / "events.jsonl");
    append(dir / "events.jsonl", kept + "{\"type\":\"resume\",\"version\":0}\n");
    tail.read([](const Line&) {});
    EXPECT_THAT(tail.checker().violations(), IsEmpty());
    ASSERT_EQ(tail.violations().size(), 1u);
    EXPECT_EQ(tail.violations()[0].line, 3u);
}

class Folder : public ::testing::Test {
  protected:
    void write(const std::string& name, float value) {
        const float values[] = {1, value};
        const TensorView view{"layer.weight", {2}, values};
        write_safetensors(dir / name, {&view, 1});
    }
    const TempDir dir;
};

TEST_F(Folder, IsGood) {
    write("weights.safetensors", 2);
    EXPECT_THAT(check_folder(dir.path(), 1, false), IsEmpty());
}

TEST_F(Folder, HasNoWeights) {
    EXPECT_THAT(check_folder(dir.path(), 1, false), ElementsAre(HasSubstr("weights.safetensors: is not there")));
}

TEST_F(Folder, HasWeightsThatAreNotFinite) {
    write("weights.safetensors", std::numeric_limits<float>::quiet_NaN());
    EXPECT_THAT(check_folder(dir.path(), 1, false), ElementsAre(HasSubstr("layer.weight[1] is not finite")));
}

TEST_F(Folder, HasAHalfWrittenFile) {
    write("weights.safetensors", 2);
    std::filesystem::create_directory(dir / "checkpoints");
    append(dir / "checkpoints/7.safetensors.tmp", "x");
    EXPECT_THAT(check_folder(dir.path(), 1, false), ElementsAre(HasSubstr("left half written")));
    std::filesystem::rename(dir / "checkpoints/7.safetensors.tmp", dir / "checkpoints/7.safetensors");
    EXPECT_THAT(check_folder(dir.path(), 1, false), ElementsAre(HasSubstr("7.safetensors")));
}

TEST_F(Folder, IsReadOnceMore) {
    write("weights.safetensors", 2);
    append(dir / "events.jsonl", join(0) + join(0));
    EXPECT_THAT(check_folder(dir.path(), 1, true), ElementsAre(HasSubstr("events.jsonl:2: worker 0 joins")));
}

} // namespace
} // namespace lategrad::chaos
