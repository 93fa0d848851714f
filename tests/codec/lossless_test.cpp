#include "lategrad/codec/lossless.h"

#include <gtest/gtest.h>

#include <bit>

#include "lategrad/codec/shuffle.h"
#include "tests/codec/coding.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/simd_targets.h"

namespace lategrad {
namespace {

std::vector<std::byte> random_bytes(RandomStream& stream, std::size_t size, std::uint64_t different) {
    std::vector<std::byte> bytes(size);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(stream.below(different));
    return bytes;
}

TEST(Shuffle, IsTheSlowLoopAndItsInverse) {
    RandomStream stream(1, Purpose::test);
    on_every_simd_target([&](const char* target) {
        for (const std::size_t word : {2u, 4u}) {
            for (const std::size_t size : {0u, 1u, 3u, 4u, 63u, 64u, 65u, 127u, 128u, 129u, 4095u, 4096u, 5003u}) {
                const auto in = random_bytes(stream, size, 256);
                const std::size_t values = size / word;
                auto slow = in; // bytes behind the last value stay
                for (std::size_t i = 0; i < values; ++i) {
                    for (std::size_t b = 0; b < word; ++b) slow[b * values + i] = in[i * word + b];
                }
                std::vector<std::byte> out(size), back(size);
                shuffle(in, word, out);
                ASSERT_EQ(out, slow) << target << ' ' << word << ' ' << size;
                unshuffle(out, word, back);
                ASSERT_EQ(back, in) << target << ' ' << word << ' ' << size;
            }
        }
    });
}

class LosslessStages : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(, LosslessStages, testing::Values("lz4", "zstd", "zstd:9", "blosc"),
                         [](const auto& info) { return "stage" + std::to_string(info.index); });

TEST_P(LosslessStages, GivesBackWhatItCompresses) {
    const auto stage = make_lossless(GetParam());
    RandomStream stream(1, Purpose::test);
    for (const std::size_t word : {1u, 2u, 4u}) {
        for (const std::size_t size : {0u, 1u, 5u, 100u, 16384u * 4u}) {
            for (const std::uint64_t different : {1u, 3u, 256u}) {
                const auto in = random_bytes(stream, size, different);
                std::vector<std::byte> out(size);
                const auto bytes = stage->compress(in, word, out);
                if (size < 5 || different == 256) {
                    EXPECT_FALSE(bytes); // no shorter
                } else if (size > 1000) {
                    EXPECT_TRUE(bytes);
                }
                if (!bytes) continue;
                ASSERT_LT(*bytes, size);
                std::vector<std::byte> back(size);
                ASSERT_EQ(stage->decompress(std::span(out).first(*bytes), word, back), size);
                ASSERT_EQ(back, in);
                // Room for less is no room.
                std::vector<std::byte> less(size - 1);
                ASSERT_FALSE(stage->decompress(std::span(out).first(*bytes), word, less));
            }
        }
    }
}

TEST(Zstd, HasACodeForEachPlane) {
    constexpr std::size_t kValues = 16384;
    RandomStream stream(1, Purpose::test);
    std::vector<std::byte> values(2 * kValues), out(2 * kValues);
    for (std::size_t i = 0; i < kValues; ++i) {
        values[2 * i] = static_cast<std::byte>(stream.below(256));   // 8 bits
        values[2 * i + 1] = static_cast<std::byte>(stream.below(8)); // 3 bits
    }
    const auto bytes = make_lossless("zstd")->compress(values, 2, out);
    EXPECT_LT(bytes.value(), 11.5 / 8 * kValues); // one code for both takes 13 bits
}

/// The library decompresses more than it compresses to: frames of its first versions, for which it allocates, and
/// frames to be skipped.
TEST(Zstd, TakesNoOtherFramesThanItMakes) {
    const auto stage = make_lossless("zstd");
    const auto bytes_of = [](std::initializer_list<int> values) {
        std::vector<std::byte> bytes;
        for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
        return bytes;
    };
    const auto joined = [](std::vector<std::byte> a, const std::vector<std::byte>& b) {
        a.insert(a.end(), b.begin(), b.end());
        return a;
    };
    std::vector<std::byte> zeros(100), frame(100), out(300);
    frame.resize(stage->compress(zeros, 1, frame).value());
    const auto skipped = bytes_of({0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2});
    const auto version_0_7 =
        bytes_of({0x27, 0xb5, 0x2f, 0xfd, 0x20, 5, 0x40, 0, 5, 'h', 'e', 'l', 'l', 'o', 0xc0, 0, 0});
    EXPECT_EQ(stage->decompress(joined(frame, frame), 1, out), 200u);
    for (const auto& other : {joined(skipped, frame), joined(frame, skipped), version_0_7, joined(frame, version_0_7),
                              joined(frame, joined(frame, frame)), bytes_of({0x28, 0xb5, 0x2f}), bytes_of({})}) {
        EXPECT_FALSE(stage->decompress(other, 1, out));
    }
}

TEST_P(LosslessStages, GivesBackEveryFloatByItself) {
    Coding coding(GetParam(), 40'000, 1);
    RandomStream stream(2, Purpose::test);
    auto grad = gaussian(stream, 40'001);
    for (std::size_t i = 0; i < 20'000; ++i) { // any bits that are finite
        grad[i] = std::bit_cast<float>(static_cast<std::uint32_t>(stream() & 0xbfff'ffff));
    }
    grad[5] = -0.0F;
    const Buffer payload = coding.encode(grad);
    EXPECT_TRUE(same_bits(coding.decode(payload), std::span(grad).first(40'000)));
}

TEST_P(LosslessStages, FindsSomethingInGradients) {
    Coding coding(GetParam(), 40'000);
    EXPECT_LT(coding.encode(gaussian(1, 40'000, 1e-3)).bytes(), 0.95 * 40'000 * sizeof(float));
}

} // namespace
} // namespace lategrad
