#include "lategrad/telemetry/line_file.h"

#include <cerrno>
#include <system_error>

#include <gtest/gtest.h>

#include "tests/files/temp_dir.h"
#include "tests/telemetry/file_size_limit.h"
#include "tests/telemetry/text_of.h"

namespace lategrad {
namespace {

TEST(LineFile, writes_when_told) {
    const TempDir dir;
    LineFile file = LineFile::create(dir / "lines");
    file.pending() += "one\n";
    EXPECT_EQ(text_of(dir / "lines"), "");
    file.flush();
    file.pending() += "two\n";
    EXPECT_EQ(text_of(dir / "lines"), "one\n");
    file.close();
    EXPECT_EQ(text_of(dir / "lines"), "one\ntwo\n");
    EXPECT_EQ(file.error(), 0);
}

TEST(LineFile, leaves_a_file_alone_that_is_there) {
    const TempDir dir;
    dir.write("lines", "mine\n");
    try {
        LineFile::create(dir / "lines");
        FAIL();
    } catch (const std::system_error& error) {
        EXPECT_EQ(error.code(), std::errc::file_exists);
    }
    EXPECT_EQ(text_of(dir / "lines"), "mine\n");
}

TEST(LineFile, after_a_failed_write_it_writes_no_more) {
    const TempDir dir;
    LineFile file = LineFile::create(dir / "lines");
    {
        const FileSizeLimit limit(6);
        file.pending() += "one\ntwo\n";
        file.flush();
    }
    EXPECT_EQ(file.error(), EFBIG);
    file.pending() += "three\n";
    file.close();
    EXPECT_EQ(text_of(dir / "lines"), "one\ntw");
}

} // namespace
} // namespace lategrad
