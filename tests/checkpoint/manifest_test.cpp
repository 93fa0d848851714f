#include "lategrad/checkpoint/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>

#include "lategrad/core/error.h"
#include "lategrad/core/random.h"
#include "tests/files/temp_dir.h"

namespace lategrad {
namespace {

using testing::HasSubstr;

CheckpointManifest example() {
    return {.summary = {.kind = CheckpointSummary::Kind::simulation,
                        .version = Version{120},
                        .seconds = 1.0 / 3,
                        .events = 345,
                        .examples_applied = 1 << 20,
                        .data_coverage = 2.0 / 3,
                        .incarnation = Incarnation{1},
                        .ledger = {{"pushed", 4}, {"held", 0}}},
            .files = {{"state.bin", {.bytes = 12, .checksum = 0xfedcba9876543210}}, {"config.toml", {}}}};
}

TEST(CheckpointManifest, IsWhatItWasBehindItsText) {
    const CheckpointManifest manifest = example();
    EXPECT_EQ(parse_manifest(to_json(manifest)), manifest);
    CheckpointManifest largest = manifest;
    largest.summary.kind = CheckpointSummary::Kind::server;
    largest.summary.version = Version{UINT64_MAX};
    largest.summary.incarnation = Incarnation{UINT32_MAX};
    largest.summary.seconds = 5e-324;
    largest.summary.data_coverage = {};
    largest.summary.ledger = {};
    EXPECT_EQ(parse_manifest(to_json(largest)), largest);
}

TEST(CheckpointManifest, TellsALaterFormatFromDamage) {
    std::string text = to_json(example());
    const auto at = text.find("\"format\": 1");
    ASSERT_NE(at, text.npos);
    text.replace(at, 11, "\"format\": 2");
    EXPECT_EQ(message_of([&] { parse_manifest(text); }), "is of a later format; a newer lategrad reads it");
    EXPECT_THAT(message_of([&] { parse_manifest("{}"); }), HasSubstr("\"format\" is missing"));
    EXPECT_THAT(message_of([&] { parse_manifest(""); }), HasSubstr("is damaged"));
    EXPECT_THAT(message_of([&] { parse_manifest("[1]"); }), HasSubstr("is damaged"));
}

TEST(CheckpointManifest, TakesNoStackByWhatItSays) {
    const std::string open(200'000, '['), closed(200'000, ']');
    const std::string text = R"({"format": 1, "checksum": "0", "deep": )" + open + closed + "}";
    EXPECT_EQ(message_of([&] { parse_manifest(text); }), "is damaged (more levels than it has)");
}

TEST(CheckpointManifest, IsNeverReadAsAnother) {
    const std::string whole = to_json(example());
    for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
        std::string changed = whole;
        changed[bit / 8] ^= static_cast<char>(1U << bit % 8);
        // Refused, or only its blanks have changed.
        try {
            ASSERT_EQ(parse_manifest(changed), example()) << bit;
        } catch (const InputError&) {
        }
    }
    for (std::size_t length = 0; length + 1 < whole.size(); ++length) {
        ASSERT_NE(message_of([&] { parse_manifest(std::string_view(whole).substr(0, length)); }), "") << length;
    }
}

TEST(CheckpointChecksum, IsOfTheBytesHoweverTheyAreCut) {
    const auto bytes = std::to_array<std::byte>({std::byte{1}, std::byte{2}, std::byte{3}});
    const std::span<const std::byte> all(bytes);
    const std::array<std::span<const std::byte>, 3> pieces{all.first(1), all.first(0), all.subspan(1)};
    EXPECT_EQ(checksum_of(pieces), checksum_of(all));
    EXPECT_NE(checksum_of(all.first(2)), checksum_of(all));
}

} // namespace
} // namespace lategrad
