#include "lategrad/checkpoint/folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <set>

#include <unistd.h>

#include "tests/checkpoint/small_run.h"
#include "tests/files/temp_dir.h"
#include "tests/telemetry/file_size_limit.h"

namespace lategrad {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

std::string content(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

void write(const fs::path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

std::set<std::string> names_in(const fs::path& folder) {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename().string());
    return names;
}

class CheckpointFolderTest : public testing::Test {
  public:
    void save(std::uint64_t version, std::size_t keep = 0) {
        run_.advance_to(version);
        CheckpointFolder(folder_, keep).save(run_.contents());
    }
    std::vector<std::uint64_t> versions() const {
        std::vector<std::uint64_t> found;
        for (const FoundCheckpoint& checkpoint : find_checkpoints(folder_)) found.push_back(checkpoint.version.value());
        return found;
    }
    /// The version that a resume begins at.
    std::uint64_t newest() {
        warnings_.clear();
        const Checkpoint checkpoint = open_newest(folder_, [&](const std::string& text) { warnings_.push_back(text); });
        SmallRun resumed;
        resumed.resume(checkpoint);
        EXPECT_TRUE(resumed.is_at(checkpoint.summary().version.value()));
        return checkpoint.summary().version.value();
    }

  protected:
    TempDir dir_;
    fs::path folder_ = dir_ / "checkpoints";
    SmallRun run_;
    std::vector<std::string> warnings_;
};

TEST_F(CheckpointFolderTest, GivesBackWhatWasSaved) {
    run_.advance_to(120);
    const CheckpointContents contents = run_.contents();
    const fs::path path = CheckpointFolder(folder_, 2).save(contents);
    EXPECT_EQ(path, folder_ / "000000000120");
    EXPECT_THAT(names_in(folder_), UnorderedElementsAre("000000000120"));
    EXPECT_THAT(names_in(path), UnorderedElementsAre("weights.safetensors", "config.toml", "state.bin", "buffers.bin",
                                                     "checkpoint.json"));
    const Checkpoint checkpoint(path);
    EXPECT_EQ(checkpoint.path(), path);
    EXPECT_EQ(checkpoint.summary(), contents.summary);
    EXPECT_EQ(checkpoint.config_toml(), "policy = \"reuse\"\n");
    const SafetensorsFile weights(checkpoint.weights());
    EXPECT_THAT(weights.tensors().at("layer.weight").shape, ElementsAre(2, 500));
    EXPECT_EQ(weights.floats("layer.weight"), std::vector<float>(1000, 120));
    SmallRun resumed;
    resumed.resume(checkpoint);
    EXPECT_TRUE(resumed.is_at(120));
    EXPECT_EQ(fs::file_size(path / "buffers.bin"), 4000u) << "what two hold is stored once";
}

TEST_F(CheckpointFolderTest, HoldsNoneBeforeTheFirst) {
    EXPECT_THAT(versions(), IsEmpty());
    EXPECT_EQ(message_of([&] { newest(); }), folder_.string() + ": holds no checkpoint");
    const CheckpointFolder folder(folder_, 3);
    EXPECT_TRUE(fs::is_directory(folder.path()));
    EXPECT_EQ(message_of([&] { newest(); }), folder_.string() + ": holds no checkpoint");
}

TEST_F(CheckpointFolderTest, KeepsTheNewest) {
    for (std::uint64_t version = 10; version <= 50; version += 10) save(version, 3);
    EXPECT_THAT(versions(), ElementsAre(50, 40, 30));
    save(60, 1);
    EXPECT_THAT(versions(), ElementsAre(60));
    EXPECT_THAT(names_in(folder_), UnorderedElementsAre("000000000060"));
    save(1'000'000'000'000, 0);
    EXPECT_THAT(versions(), ElementsAre(1'000'000'000'000, 60));
}

TEST_F(CheckpointFolderTest, ReplacesOneOfTheSameVersion) {
    save(10);
    run_.notes.clear();
    CheckpointContents changed = run_.contents();
    changed.config_toml = "changed";
    CheckpointFolder(folder_, 0).save(changed);
    EXPECT_THAT(names_in(folder_), UnorderedElementsAre("000000000010"));
    EXPECT_EQ(Checkpoint(folder_ / "000000000010").config_toml(), "changed");
}

TEST_F(CheckpointFolderTest, ForgetsWhatWasRolledBack) {
    for (const std::uint64_t version : {10, 20, 30}) save(version);
    save(20, 1); // of a run that went on from 10
    EXPECT_THAT(versions(), ElementsAre(20));
}

TEST_F(CheckpointFolderTest, LeavesOthersAlone) {
    save(10, 1);
    for (const char* name : {"notes", "123", "0000000000x0", ".hidden", ".notes.tmp-1"}) write(folder_ / name, "mine");
    save(20, 1);
    EXPECT_THAT(names_in(folder_),
                UnorderedElementsAre("000000000020", "notes", "123", "0000000000x0", ".hidden", ".notes.tmp-1"));
}

TEST_F(CheckpointFolderTest, RemovesWhatAKilledWriterLeft) {
    save(10);
    const fs::path left = folder_ / ".000000000020.tmp-99999";
    fs::copy(folder_ / "000000000010", left);
    EXPECT_THAT(versions(), ElementsAre(10));
    EXPECT_EQ(newest(), 10u);
    EXPECT_TRUE(fs::exists(left)) << "who only reads removes nothing: it may be being written";
    const CheckpointFolder folder(folder_, 0);
    EXPECT_FALSE(fs::exists(left));
}

/// Where folders cannot change places, a writer may be killed while the old one stands aside.
TEST_F(CheckpointFolderTest, FindsOneThatMadeRoom) {
    save(10);
    save(20);
    fs::rename(folder_ / "000000000020", folder_ / "000000000020.replaced");
    EXPECT_THAT(versions(), ElementsAre(20, 10));
    EXPECT_EQ(newest(), 20u);
    { const CheckpointFolder folder(folder_, 0); }
    EXPECT_THAT(names_in(folder_), UnorderedElementsAre("000000000010", "000000000020"));
    fs::copy(folder_ / "000000000020", folder_ / "000000000020.replaced");
    EXPECT_THAT(versions(), ElementsAre(20, 10));
    { const CheckpointFolder folder(folder_, 0); }
    EXPECT_THAT(names_in(folder_), UnorderedElementsAre("000000000010", "000000000020"));
}

TEST_F(CheckpointFolderTest, PassesOverDamagedOnes) {
    for (const std::uint64_t version : {10, 20, 30}) save(version);
    const auto path_of = [&](const char* name) { return (folder_ / name).string(); };
    std::string state = content(folder_ / "000000000030" / "state.bin");
    state[state.size() / 2] ^= 1;
    write(folder_ / "000000000030" / "state.bin", state);
    EXPECT_EQ(newest(), 20u);
    EXPECT_THAT(warnings_, ElementsAre(path_of("000000000030") + ": state.bin is damaged (checksum differs); using " +
                                       path_of("000000000020")));
    write(folder_ / "000000000020" / "buffers.bin", "short");
    EXPECT_EQ(newest(), 10u);
    ASSERT_EQ(warnings_.size(), 2u);
    EXPECT_EQ(warnings_[1],
              path_of("000000000020") + ": buffers.bin is damaged (5 bytes of 4000); using " + path_of("000000000010"));
    fs::remove(folder_ / "000000000010" / "weights.safetensors");
    EXPECT_EQ(message_of([&] { newest(); }), folder_.string() + ": holds no checkpoint that is whole: " +
                                                 path_of("000000000030") + ": state.bin is damaged (checksum differs)");
    EXPECT_EQ(message_of([&] { Checkpoint(folder_ / "000000000010"); }),
              path_of("000000000010") + ": weights.safetensors is damaged (it is missing)");
}

TEST_F(CheckpointFolderTest, NoticesWhereverItIsDamaged) {
    run_.advance_to(3);
    const fs::path path = CheckpointFolder(folder_, 0).save(run_.contents());
    for (const std::string& name : names_in(path)) {
        const std::string whole = content(path / name);
        const std::size_t stride = 1 + whole.size() / 100;
        for (std::size_t at = 0; at + 1 < whole.size(); at += stride) { // its last newline may be missing
            std::string changed = whole;
            changed[at] ^= static_cast<char>(1 << at % 8);
            write(path / name, changed);
            const std::string what = message_of([&] { Checkpoint checkpoint(path); });
            // Of checkpoint.json a blank may change into another one (manifest_test.cpp).
            if (name != "checkpoint.json") {
                ASSERT_THAT(what, HasSubstr(name + " is damaged (checksum differs)")) << at;
            }
            write(path / name, whole.substr(0, at));
            ASSERT_NE(message_of([&] { Checkpoint checkpoint(path); }), "") << name << ' ' << at;
        }
        write(path / name, whole);
    }
    EXPECT_EQ(message_of([&] { Checkpoint checkpoint(path); }), "");
}

TEST_F(CheckpointFolderTest, NamesTheFileWhoseStateDoesNotFit) {
    save(10);
    const Checkpoint checkpoint(folder_ / "000000000010");
    BufferPool none(0);
    EXPECT_EQ(message_of([&] { checkpoint.read_state(none, [](Archive& archive) { archive.section("server"); }); }),
              (folder_ / "000000000010" / "state.bin").string() + ": at byte 4: 'server' should begin here");
}

TEST_F(CheckpointFolderTest, LeavesNothingWhereTheDiskIsFull) {
    save(10);
    run_.advance_to(20);
    const CheckpointContents contents = run_.contents();
    CheckpointFolder folder(folder_, 1);
    for (const rlim_t bytes : {0, 20, 100, 3000, 4050}) {
        std::string what;
        {
            const FileSizeLimit full(bytes);
            what = message_of<EnvironmentError>([&] { folder.save(contents); });
        }
        EXPECT_THAT(what, HasSubstr("cannot write " + (folder_ / "000000000020").string() + "/")) << bytes;
        EXPECT_THAT(what, HasSubstr(": File too large; ")) << bytes;
        EXPECT_THAT(names_in(folder_), UnorderedElementsAre("000000000010")) << bytes;
    }
    EXPECT_EQ(newest(), 10u);
    folder.save(contents);
    EXPECT_EQ(newest(), 20u);
}

TEST_F(CheckpointFolderTest, SaysWhereItCannotBe) {
    const fs::path file = dir_.write("file", "");
    EXPECT_THAT(message_of<EnvironmentError>([&] { CheckpointFolder(file, 1); }),
                HasSubstr("cannot write " + file.string()));
    EXPECT_THAT(message_of<EnvironmentError>([&] { CheckpointFolder(file / "checkpoints", 1); }),
                HasSubstr("Not a directory"));
    CheckpointFolder folder(folder_, 1);
    fs::remove(folder_);
    EXPECT_THAT(message_of<EnvironmentError>([&] { folder.save(run_.contents()); }),
                HasSubstr("No such file or directory"));
    if (::geteuid() == 0) return; // who may write anywhere
    fs::create_directory(folder_);
    fs::permissions(folder_, fs::perms::owner_read | fs::perms::owner_exec);
    EXPECT_THAT(message_of<EnvironmentError>([&] { folder.save(run_.contents()); }), HasSubstr("Permission denied"));
}

} // namespace
} // namespace lategrad
