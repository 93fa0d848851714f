#include "lategrad/codec/half.h"

#include <gtest/gtest.h>

#include <bit>
#include <limits>

#include "tests/codec/coding.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/simd_targets.h"

namespace lategrad {
namespace {

using Limits = std::numeric_limits<float>;

/// A binary format with so many bits behind the point (IEEE 754).
struct Format {
    HalfRule::Format name;
    int mantissa;
    int exponent_min; ///< of normal numbers
    int exponent_max;
    std::uint16_t infinity;

    /// Any finite word as a number, by the definition.
    float value(std::uint16_t word) const {
        const int fraction = word & ((1 << mantissa) - 1);
        const int exponent = (word & 0x7fff) >> mantissa;
        const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(fraction), exponent_min - mantissa)
                                              : std::ldexp(static_cast<float>(fraction + (1 << mantissa)),
                                                           exponent - 1 + exponent_min - mantissa);
        return (word & 0x8000) != 0 ? -magnitude : magnitude;
    }
    /// To the nearest, ties to even: the division is exact, and nearbyint rounds so.
    float rounded(float x) const {
        if (x == 0) return x;
        const int exponent = std::max(std::ilogb(x), exponent_min);
        return static_cast<float>(
            std::ldexp(std::nearbyint(std::ldexp(static_cast<double>(x), mantissa - exponent)), exponent - mantissa));
    }
    /// Halfway between the largest number and the next one there would be; this one, as even, is what a tie goes to.
    float overflow() const { return std::ldexp(2 - std::ldexp(1.0F, -mantissa - 1), exponent_max); }
};

const Format kFp16{HalfRule::Format::fp16, 10, -14, 15, 0x7c00};
const Format kBf16{HalfRule::Format::bf16, 7, -126, 127, 0x7f80};

std::vector<float> encoded_and_decoded(const Format& format, std::span<const float> values) {
    const HalfRule rule(format.name);
    std::vector<std::byte> bytes(rule.chunk_bytes(values.size()));
    EXPECT_EQ(rule.encode(values, {}, bytes), bytes.size());
    const EncodedChunk chunk{.bytes = bytes, .elements = values.size()};
    EXPECT_EQ(rule.check(chunk), Reason::none);
    std::vector<float> decoded(values.size());
    rule.add(chunk, 1, false, decoded);
    return decoded;
}

class HalfFormats : public testing::TestWithParam<Format> {};
INSTANTIATE_TEST_SUITE_P(, HalfFormats, testing::Values(kFp16, kBf16),
                         [](const auto& info) { return info.index == 0 ? "fp16" : "bf16"; });

TEST_P(HalfFormats, EveryWordDecodesToItsNumber) {
    const HalfRule rule(GetParam().name);
    std::vector<std::uint16_t> finite;
    std::vector<float> values;
    for (std::uint32_t word = 0; word <= 0xffff; ++word) {
        const auto narrow = static_cast<std::uint16_t>(word);
        if ((narrow & GetParam().infinity) == GetParam().infinity) {
            EXPECT_EQ(rule.check({.bytes = std::as_bytes(std::span(&narrow, 1)), .elements = 1}), Reason::not_finite);
            continue;
        }
        finite.push_back(narrow);
        values.push_back(GetParam().value(narrow));
    }
    on_every_simd_target([&](const char* target) {
        const EncodedChunk chunk{.bytes = std::as_bytes(std::span(finite)), .elements = finite.size()};
        ASSERT_EQ(rule.check(chunk), Reason::none) << target;
        std::vector<float> decoded(finite.size());
        rule.add(chunk, 1, false, decoded);
        EXPECT_TRUE(same_bits(decoded, values)) << target;
        EXPECT_TRUE(same_bits(encoded_and_decoded(GetParam(), values), values)) << target;
    });
}

TEST_P(HalfFormats, RoundsToTheNearestAndTiesToEven) {
    std::vector<float> values;
    for (std::uint32_t word = 0; word + 1 < GetParam().infinity; ++word) {
        const float low = GetParam().value(static_cast<std::uint16_t>(word));
        const float high = GetParam().value(static_cast<std::uint16_t>(word + 1));
        const auto middle = static_cast<float>((static_cast<double>(low) + high) / 2);
        for (const float value :
             {middle, std::nextafter(middle, low), std::nextafter(middle, high), std::nextafter(low, high)}) {
            values.push_back(value);
            values.push_back(-value);
        }
    }
    RandomStream stream(1, Purpose::test);
    while (values.size() < 700'000) {
        const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(stream()));
        if (std::abs(value) < GetParam().overflow()) values.push_back(value);
    }
    std::vector<float> expected;
    for (const float value : values) expected.push_back(GetParam().rounded(value));
    on_every_simd_target([&](const char* target) {
        EXPECT_TRUE(same_bits(encoded_and_decoded(GetParam(), values), expected)) << target;
    });
}

TEST_P(HalfFormats, WhatWouldBecomeInfiniteIsNotEncoded) {
    const HalfRule rule(GetParam().name);
    const float overflow = GetParam().overflow();
    EXPECT_EQ(kFp16.overflow(), 65520);
    std::vector<std::byte> bytes(rule.chunk_bytes(100));
    on_every_simd_target([&](const char* target) {
        for (const std::size_t place : {0u, 50u, 99u}) { // the last ones are behind whole vectors
            std::vector<float> values(100, 1);
            for (const float value : {std::nextafter(overflow, 0.0F), -std::nextafter(overflow, 0.0F)}) {
                values[place] = value;
                EXPECT_TRUE(rule.encode(values, {}, bytes)) << target << ' ' << place;
            }
            for (const float value : {overflow, -overflow, Limits::max(), Limits::infinity(), -Limits::infinity(),
                                      Limits::quiet_NaN(), -Limits::quiet_NaN()}) {
                values[place] = value;
                EXPECT_FALSE(rule.encode(values, {}, bytes)) << target << ' ' << place << ' ' << value;
            }
        }
    });
}

TEST_P(HalfFormats, TheRelativeErrorIsAtMostHalfAUnit) {
    const auto values = gaussian(2, 100'000);
    const auto decoded = encoded_and_decoded(GetParam(), values);
    const float unit = std::ldexp(1.0F, -GetParam().mantissa - 1); // 2⁻¹¹ and 2⁻⁸
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (std::abs(values[i]) < 1e-4F) continue; // subnormal in fp16
        ASSERT_LE(std::abs(decoded[i] - values[i]), unit * std::abs(values[i]));
    }
}

} // namespace
} // namespace lategrad
