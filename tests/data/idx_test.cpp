#include "lategrad/data/idx.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lategrad/core/error.h"
#include "tests/data/idx_files.h"
#include "tests/files/temp_dir.h"

namespace lategrad {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(Idx, ReadsImagesOfAnySize) {
    const TempDir folder;
    const IdxArray array = read_idx(folder.write("a", idx_file({2, 1, 3}, bytes_of({1, 2, 3, 4, 5, 255}))), 3);
    EXPECT_THAT(array.shape, ElementsAre(2, 1, 3));
    EXPECT_THAT(array.values,
                ElementsAre(std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}, std::byte{5}, std::byte{255}));
}

TEST(Idx, NamesTheFileTheOffsetAndTheTrouble) {
    const std::string good = idx_file({2, 2, 2}, "abcdefgh");
    const struct {
        std::string bytes;
        std::string trouble;
    } cases[] = {
        {"", "not an IDX file: 0 bytes long"},
        {"abc", "not an IDX file: 3 bytes long"},
        {"\x89PNG....", "offset 0: not an IDX file: it begins with 0x89504e47"},
        {idx_file({2, 2, 2}, std::string(32, 'x'), 0x0d), "offset 2: element type 0x0d"},
        {idx_file({8}, "abcdefgh"), "offset 3: 1 dimensions where images have 3"},
        {good.substr(0, 15), "truncated: ends at offset 15, within its header of 16 bytes"},
        {good.substr(0, good.size() - 1), "truncated: offset 4 announces 2 × 2 × 2 bytes of data, 7 are there"},
        {good + "ij", "offset 24: 2 bytes after the 2 × 2 × 2"},
        {idx_file({0xffffffff, 0xffffffff, 0xffffffff}, "abc"), "truncated: offset 4 announces"},
        {"\x1f\x8b", "truncated: gzip data"},
    };
    const TempDir folder;
    for (const auto& c : cases) {
        const auto path = folder.write("bad-idx3-ubyte", c.bytes);
        EXPECT_THAT(message_of([&] { read_idx(path, 3); }), AllOf(HasSubstr(path.string()), HasSubstr(c.trouble)));
    }
    EXPECT_THAT(message_of([&] { read_idx(folder / "none", 3); }), HasSubstr("No such file"));
}

TEST(Idx, ChecksImagesAgainstTheirLabels) {
    const TempDir folder;
    const auto images = folder.write("images", idx_file({3, 1, 2}, "abcdef"));
    const auto labels = folder.write("labels", idx_file({3}, bytes_of({0, 9, 200})));
    EXPECT_THAT(read_labelled_images(images, labels, 256).labels, ElementsAre(0, 9, 200));
    EXPECT_THAT(message_of([&] { read_labelled_images(images, labels, 10); }),
                HasSubstr("labels: label 200 at offset 10"));

    const auto two = folder.write("two", idx_file({2}, "ab"));
    EXPECT_THAT(message_of([&] { read_labelled_images(images, two, 256); }),
                AllOf(HasSubstr("images holds 3 images"), HasSubstr("two holds 2 labels")));
    const auto none = folder.write("none", idx_file({0, 28, 28}, ""));
    EXPECT_THAT(message_of([&] { read_labelled_images(none, two, 256); }), HasSubstr("no image in it"));
}

} // namespace
} // namespace lategrad
