#include "lategrad/files/file.h"

#include <csignal>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/resource.h>
#include <zlib.h>

#include "lategrad/core/error.h"
#include "tests/files/temp_dir.h"

namespace lategrad {
namespace {

using testing::HasSubstr;

std::string text_of(const std::vector<std::byte>& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string gzipped(const TempDir& folder, std::string_view text) {
    const auto path = folder / "compressed.gz";
    gzFile file = gzopen(path.c_str(), "wb1");
    gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
    gzclose(file);
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

/// Incompressible, so that the compressed file spans several reads too.
std::string noise(std::size_t bytes) {
    std::string text(bytes, '\0');
    std::uint32_t state = 1;
    for (char& c : text) c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
    return text;
}

TEST(ReadFile, ReadsWhatIsThere) {
    const TempDir folder;
    EXPECT_EQ(text_of(read_file(folder.write("a", "gradient"), 8)), "gradient");
    EXPECT_TRUE(read_file(folder.write("empty", ""), 0).empty());
    const std::string long_text = noise(1'000'000);
    EXPECT_EQ(text_of(read_file(folder.write("long", long_text), 1'000'000)), long_text);
}

TEST(ReadFile, DecompressesGzipWhateverItsName) {
    const TempDir folder;
    for (const std::string& text : {std::string("gradient"), std::string(), std::string(3'000'000, 'x'), noise(700'000),
                                    std::string(std::size_t{256} << 10, 'y')})
        EXPECT_EQ(text_of(read_file(folder.write("a", gzipped(folder, text)), 3'000'000)), text) << text.size();
}

TEST(ReadFile, DecompressesSeveralMembers) {
    const TempDir folder;
    const std::string both = gzipped(folder, "late ") + gzipped(folder, "gradients");
    EXPECT_EQ(text_of(read_file(folder.write("a.gz", both), 100)), "late gradients");
}

TEST(ReadFile, NamesTheFileAndTheTrouble) {
    const TempDir folder;
    const std::string good = gzipped(folder, noise(1000));
    const struct {
        std::filesystem::path path;
        std::string trouble;
    } cases[] = {
        {folder / "missing", "No such file"},
        {folder.path(), "Is a directory"},
        {folder.write("long", std::string(2001, 'x')), "longer than 2000 bytes"},
        {folder.write("bomb.gz", gzipped(folder, std::string(1'000'000, 'x'))), "longer than 2000 bytes"},
        {folder.write("short.gz", good.substr(0, good.size() - 1)), "truncated"},
        {folder.write("magic.gz", good.substr(0, 2)), "truncated"},
        {folder.write("trailing.gz", good + "more"), "damaged gzip data"},
        {folder.write("crc.gz", good.substr(0, good.size() - 8) + "12345678"), "incorrect data check"},
    };
    for (const auto& c : cases) {
        const std::string message = message_of([&] { read_file(c.path, 2000); });
        EXPECT_THAT(message, HasSubstr(c.path.string()));
        EXPECT_THAT(message, HasSubstr(c.trouble));
    }
}

RC_GTEST_PROP(ReadFile, SurvivesDamagedGzip, ()) {
    const TempDir folder;
    static const std::string good = gzipped(folder, noise(100) + std::string(1000, 'x'));
    std::string bytes = good;
    bytes[*rc::gen::inRange<std::size_t>(2, good.size())] ^= static_cast<char>(*rc::gen::inRange(1, 256));
    const auto path = folder.write("damaged.gz", bytes);
    try {
        RC_ASSERT(read_file(path, 5000).size() <= 5000u);
    } catch (const InputError&) {
    }
}

TEST(WriteFile, ReplacesTheOldFileAndLeavesNoOther) {
    const TempDir folder;
    const auto path = folder.write("summary.json", "old and longer");
    folder.write("summary.json.tmp", "left behind by a crash");
    write_file_atomically(path, std::string_view("new"));
    EXPECT_EQ(text_of(read_file(path, 100)), "new");
    EXPECT_FALSE(std::filesystem::exists(folder / "summary.json.tmp"));
}

TEST(WriteFile, JoinsPieces) {
    const TempDir folder;
    const std::string a = "late ", b, c = "gradients";
    const std::vector pieces{std::as_bytes(std::span(a)), std::as_bytes(std::span(b)), std::as_bytes(std::span(c))};
    write_file_atomically(folder / "a", pieces);
    EXPECT_EQ(text_of(read_file(folder / "a", 100)), "late gradients");
}

TEST(WriteFile, NamesTheFileThatCannotBeWritten) {
    const auto write = [] { write_file_atomically("/no/such/folder/file", std::string_view("x")); };
    EXPECT_THAT(message_of<EnvironmentError>(write),
                testing::AllOf(HasSubstr("/no/such/folder/file"), HasSubstr("No such file")));
}

/// A limit on the size of files stands in for a full disk.
TEST(WriteFile, KeepsTheOldFileWhenTheDiskIsFull) {
    const TempDir folder;
    const auto path = folder.write("weights", "old");
    rlimit limit{};
    ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
    const rlimit small{.rlim_cur = 4096, .rlim_max = limit.rlim_max};
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    const std::string message =
        message_of<EnvironmentError>([&] { write_file_atomically(path, std::string(10'000, 'x')); });
    setrlimit(RLIMIT_FSIZE, &limit);
    std::signal(SIGXFSZ, handler);

    EXPECT_THAT(message, HasSubstr(path.string()));
    EXPECT_EQ(text_of(read_file(path, 100)), "old");
    EXPECT_FALSE(std::filesystem::exists(folder / "weights.tmp"));
}

} // namespace
} // namespace lategrad
