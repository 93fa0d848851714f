#include "lategrad/codec/tern.h"

#include <gtest/gtest.h>

#include "tests/codec/moments.h"
#include "tests/testing/simd_targets.h"

namespace lategrad {
namespace {

constexpr int kDraws = 4000;

/// A chunk by its layout (tern.h), read bit by bit.
std::vector<float> slow_decode(std::span<const std::byte> bytes, std::size_t elements) {
    float scale = 0;
    std::memcpy(&scale, bytes.data(), sizeof scale);
    const auto bit = [&](std::size_t at, std::size_t i) {
        return (bytes[sizeof scale + at + i / 8] >> (i % 8) & std::byte{1}) != std::byte{0};
    };
    std::vector<float> values;
    for (std::size_t i = 0; i < elements; ++i) {
        const bool negative = bit((elements + 7) / 8, i);
        values.push_back(!bit(0, i) ? 0 : negative ? -scale : scale);
    }
    return values;
}

/// What is encoded: clipped at 2.5 times the root mean square.
std::vector<float> clipped(std::vector<float> values) {
    const auto bound = static_cast<float>(2.5 * std::sqrt(squared_norm(values) / static_cast<double>(values.size())));
    for (float& value : values) value = std::clamp(value, -bound, bound);
    return values;
}

TEST(TernRule, DecodesAsTheSlowTwin) {
    const TernRule rule;
    for (const std::size_t size : {1u, 7u, 8u, 9u, 4093u}) {
        auto values = gaussian(size, size + 8);
        std::fill(values.begin() + static_cast<std::ptrdiff_t>(size), values.end(), 0.0F);
        std::vector<std::byte> bytes(rule.chunk_bytes(size));
        ASSERT_EQ(rule.encode(std::span(values).first(size), {.seed = 5, .chunk = 3}, bytes), bytes.size());
        const auto slow = slow_decode(bytes, size);
        on_every_simd_target([&](const char* target) {
            std::vector<float> decoded(size);
            rule.add({.bytes = bytes, .elements = size}, 1, false, decoded);
            ASSERT_EQ(decoded, slow) << target;
        });
        for (std::size_t i = 0; i < size; ++i) ASSERT_TRUE(slow[i] == 0 || (slow[i] < 0) == (values[i] < 0));
    }
}

TEST(TernRule, IsUnbiasedButForClipping) {
    auto values = gaussian(1, 300);
    values[7] = 20; // clipped
    values[8] = 0;
    Coding coding("terngrad", values.size());
    const auto wanted = clipped(values);
    const Moments drawn = moments(coding, values, wanted, kDraws);
    for (std::size_t i = 0; i < values.size(); ++i) {
        EXPECT_NEAR(drawn.mean[i], wanted[i], 5 * drawn.deviation_of_mean[i] + 1e-5) << i;
    }
    EXPECT_EQ(drawn.mean[8], 0);
    EXPECT_NEAR(drawn.along, 1, 5 * drawn.deviation_of_along);
    EXPECT_LT(drawn.deviation_of_along, 0.005);
}

TEST(TernRule, TheSecondMomentIsTheScaleTimesTheL1Norm) {
    // E‖s·sign(g)·b‖² = Σ s²·|g|/s = s·‖g‖₁ (Wen et al. 2017, equations 2 and 3), where nothing is clipped.
    std::vector<float> values = gaussian(2, 500);
    for (float& value : values) value = std::clamp(value, -2.0F, 2.0F);
    double l1 = 0;
    for (const float value : values) l1 += std::abs(value);
    Coding coding("terngrad", values.size());
    const double variance = moments(coding, values, kDraws).squared_error;
    EXPECT_NEAR(variance, 2 * l1 - squared_norm(values), 0.02 * l1);
}

TEST(TernRule, ZerosStayZeros) {
    Coding coding("terngrad", 5000);
    const std::vector<float> zeros(5000);
    EXPECT_EQ(coding.decode(coding.encode(zeros)), zeros);
}

} // namespace
} // namespace lategrad
