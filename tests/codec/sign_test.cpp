#include "lategrad/codec/sign.h"

#include <gtest/gtest.h>

#include "tests/codec/coding.h"
#include "tests/testing/simd_targets.h"

namespace lategrad {
namespace {

/// A chunk by its layout (sign.h), read bit by bit.
std::vector<float> slow_decode(std::span<const std::byte> bytes, std::size_t elements) {
    float magnitude = 0;
    std::memcpy(&magnitude, bytes.data(), sizeof magnitude);
    std::vector<float> values;
    for (std::size_t i = 0; i < elements; ++i) {
        const bool negative = (bytes[sizeof magnitude + i / 8] >> (i % 8) & std::byte{1}) != std::byte{0};
        values.push_back(negative ? -magnitude : magnitude);
    }
    return values;
}

TEST(SignRule, SendsTheSignTimesTheMeanMagnitude) {
    const SignRule rule;
    for (const std::size_t size : {1u, 7u, 8u, 9u, 4093u}) {
        auto values = gaussian(size, size + 8); // zeros behind
        std::fill(values.begin() + static_cast<std::ptrdiff_t>(size), values.end(), 0.0F);
        values[size / 2] = -0.0F; // counts as positive
        double mean = 0;
        for (const float value : values) mean += std::abs(value) / static_cast<double>(size);
        on_every_simd_target([&](const char* target) {
            std::vector<std::byte> bytes(rule.chunk_bytes(size));
            ASSERT_EQ(rule.encode(std::span(values).first(size), {}, bytes), bytes.size());
            const auto slow = slow_decode(bytes, size);
            for (std::size_t i = 0; i < size; ++i) {
                ASSERT_NEAR(slow[i], values[i] < 0 ? -mean : mean, 1e-5 * mean) << target << ' ' << i;
            }
            std::vector<float> decoded(size);
            rule.add({.bytes = bytes, .elements = size}, 1, false, decoded);
            ASSERT_EQ(decoded, slow) << target;
        });
    }
}

TEST(SignRule, ContractsAsPublished) {
    // ‖C(x) − x‖² = (1 − ‖x‖₁²/(d·‖x‖₂²))·‖x‖² in each chunk (Karimireddy et al. 2019).
    constexpr std::size_t kSize = 4096;
    Coding coding("signsgd", kSize);
    for (const double shape : {0.1, 1.0, 4.0}) {
        auto x = gaussian(3, kSize);
        for (float& value : x) value = std::copysign(std::pow(std::abs(value), static_cast<float>(shape)), value);
        double l1 = 0;
        for (const float value : x) l1 += std::abs(value);
        const double delta = l1 * l1 / (kSize * squared_norm(x));
        const double error = squared_distance(coding.decode(coding.encode(x)), x);
        EXPECT_LE(error, (1 - delta) * squared_norm(x) * (1 + 1e-5));
    }
}

TEST(SignRule, AMagnitudeBelowZeroIsMalformed) {
    const SignRule rule;
    std::vector<std::byte> bytes(rule.chunk_bytes(8));
    const float magnitude = -1;
    std::memcpy(bytes.data(), &magnitude, sizeof magnitude);
    EXPECT_EQ(rule.check({.bytes = bytes, .elements = 8}), Reason::malformed);
}

} // namespace
} // namespace lategrad
