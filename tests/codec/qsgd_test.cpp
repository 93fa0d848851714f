#include "lategrad/codec/qsgd.h"

#include <gtest/gtest.h>

#include "tests/codec/moments.h"
#include "tests/testing/simd_targets.h"

namespace lategrad {
namespace {

/// A chunk by its layout (qsgd.h), read bit by bit.
std::vector<float> slow_decode(const QsgdRule& rule, int bits, std::span<const std::byte> bytes, std::size_t elements) {
    const std::size_t buckets = (elements + QsgdRule::kBucket - 1) / QsgdRule::kBucket;
    const auto packed = bytes.subspan(buckets * sizeof(float));
    std::vector<float> values;
    for (std::size_t i = 0; i < elements; ++i) {
        float norm = 0;
        std::memcpy(&norm, bytes.data() + i / QsgdRule::kBucket * sizeof norm, sizeof norm);
        int level = -rule.levels();
        if (bits == 8) {
            level = static_cast<std::int8_t>(packed[i]);
        } else {
            for (int plane = 0; plane < bits; ++plane) {
                const std::byte of_eight = packed[static_cast<std::size_t>(plane) * ((elements + 7) / 8) + i / 8];
                level += static_cast<int>(of_eight >> (i % 8) & std::byte{1}) << plane;
            }
        }
        values.push_back(static_cast<float>(level) * (norm / static_cast<float>(rule.levels())));
    }
    return values;
}

TEST(QsgdRule, IsWithinALevelOfTheEntryAndDecodesAsTheSlowTwin) {
    for (int bits = 2; bits <= 8; ++bits) {
        const QsgdRule rule(bits);
        EXPECT_EQ(rule.levels(), (1 << (bits - 1)) - 1);
        for (const std::size_t size : {1u, 9u, 511u, 512u, 513u, 4091u}) {
            auto values = gaussian(size, size + 8);
            std::fill(values.begin() + static_cast<std::ptrdiff_t>(size), values.end(), 0.0F);
            std::vector<std::byte> bytes(rule.chunk_bytes(size));
            ASSERT_EQ(rule.encode(std::span(values).first(size), {.seed = 4, .chunk = 2}, bytes), bytes.size());
            const auto slow = slow_decode(rule, bits, bytes, size);
            for (std::size_t i = 0; i < size; ++i) {
                const std::size_t from = i / QsgdRule::kBucket * QsgdRule::kBucket;
                const auto bucket = std::span(values).subspan(from, std::min(QsgdRule::kBucket, size - from));
                const double norm = std::sqrt(squared_norm(bucket));
                ASSERT_LE(std::abs(slow[i] - values[i]), norm / rule.levels() * (1 + 1e-5))
                    << bits << ' ' << size << ' ' << i;
            }
            on_every_simd_target([&](const char* target) {
                std::vector<float> decoded(size);
                rule.add({.bytes = bytes, .elements = size}, 1, false, decoded);
                ASSERT_EQ(decoded, slow) << target << ' ' << bits << ' ' << size;
            });
        }
    }
}

TEST(QsgdRule, IsUnbiasedWithinItsVarianceBound) {
    // Per bucket E‖Q(v) − v‖² ≤ min(d/s², √d/s)·‖v‖² (Alistarh et al. 2017, lemma 3.1).
    constexpr int kDraws = 3000;
    for (const int bits : {2, 4, 8}) {
        const double s = QsgdRule(bits).levels();
        for (const std::size_t size : {40u, 512u}) {
            auto values = gaussian(static_cast<std::uint64_t>(bits), size);
            values[3] = 0;
            Coding coding("qsgd:" + std::to_string(bits), size);
            const Moments drawn = moments(coding, values, kDraws);
            const double norm = std::sqrt(squared_norm(values));
            for (std::size_t i = 0; i < size; ++i) {
                // Where no draw took a rare level the sample's deviation says little: a level a draw is added.
                const double rare = norm / s * 12 / kDraws;
                ASSERT_NEAR(drawn.mean[i], values[i], 5 * drawn.deviation_of_mean[i] + rare) << bits << ' ' << i;
            }
            EXPECT_EQ(drawn.mean[3], 0);
            EXPECT_NEAR(drawn.along, 1, 5 * drawn.deviation_of_along + 1e-5) << bits << ' ' << size;
            // Between two levels, a fraction f above the lower one: a level's square times f(1 − f).
            double variance = 0;
            for (const float value : values) {
                const double level = std::abs(value) / norm * s;
                const double f = level - std::floor(level);
                variance += norm / s * (norm / s) * f * (1 - f);
            }
            EXPECT_NEAR(drawn.squared_error / variance, 1, 0.03) << bits << ' ' << size;
            const auto d = static_cast<double>(size);
            EXPECT_LE(drawn.squared_error, std::min(d / (s * s), std::sqrt(d) / s) * norm * norm * 1.02)
                << bits << ' ' << size;
        }
    }
}

TEST(QsgdRule, DrawsAnewForEachChunkStepAndWorker) {
    Coding coding("qsgd:4", 8192); // two chunks
    auto values = gaussian(1, 4096);
    values.insert(values.end(), values.begin(), values.begin() + 4096);
    const auto first = coding.decode(coding.encode(values, 0));
    EXPECT_FALSE(std::equal(first.begin(), first.begin() + 4096, first.begin() + 4096));
    EXPECT_NE(coding.decode(coding.encode(values, 1)), first);
    EXPECT_NE(coding.decode(coding.encode(*coding.encoder(1), values, 0)), first);
}

TEST(QsgdRule, HugeNormsThatNoGradientHasAreNotFinite) {
    // The largest level written would overflow.
    const QsgdRule rule(2);
    std::vector<std::byte> bytes(rule.chunk_bytes(8), std::byte{0xff});
    const float norm = 3e38F;
    std::memcpy(bytes.data(), &norm, sizeof norm);
    EXPECT_EQ(rule.check({.bytes = bytes, .elements = 8}), Reason::not_finite);
    const float below = -1;
    std::memcpy(bytes.data(), &below, sizeof below);
    EXPECT_EQ(rule.check({.bytes = bytes, .elements = 8}), Reason::malformed);
}

TEST(QsgdRule, TinyNormsBecomeZeros) {
    Coding coding("qsgd:8", 16);
    const std::vector<float> tiny(16, 1e-30F);
    EXPECT_EQ(coding.decode(coding.encode(tiny)), std::vector<float>(16));
}

} // namespace
} // namespace lategrad
