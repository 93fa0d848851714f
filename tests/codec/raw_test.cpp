#include "lategrad/codec/raw.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <limits>
#include <vector>

#include "tests/codec/coding.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/simd_targets.h"

namespace lategrad {
namespace {

std::span<const std::byte> payload(const std::vector<float>& values) {
    return std::as_bytes(std::span(values));
}

RawCodec raw(std::size_t elements, std::size_t tail = 0) {
    return RawCodec({.elements = elements, .tail = tail});
}

std::vector<float> random_floats(RandomStream& stream, std::size_t size) {
    std::vector<float> values(size);
    for (float& value : values) value = static_cast<float>(stream.exponential(1) - stream.exponential(1));
    return values;
}

/// What weighted_sum must give, bit for bit.
std::vector<float> slow_sum(const std::vector<std::vector<float>>& gradients, const std::vector<float>& coefficients,
                            std::size_t first, std::size_t size) {
    std::vector<float> sum(size);
    for (std::size_t i = 0; i < size; ++i) {
        sum[i] = coefficients[0] * gradients[0][first + i];
        for (std::size_t t = 1; t < gradients.size(); ++t) {
            const float product = coefficients[t] * gradients[t][first + i];
            sum[i] = sum[i] + product;
        }
    }
    return sum;
}

TEST(RawCodec, EncodesByHandingOn) {
    BufferPool pool(64);
    const Buffer grad = pool.lease(16);
    EXPECT_EQ(raw(4).make_encoder(WorkerId(0), pool)->encode(grad, {}).data(), grad.data());
}

TEST(RawCodec, ChecksTheLength) {
    const std::vector<float> values(10);
    EXPECT_EQ(raw(10).validate(payload(values)), Reason::none);
    EXPECT_EQ(raw(8, 2).validate(payload(values)), Reason::none);
    EXPECT_EQ(raw(9).validate(payload(values)), Reason::malformed);
    EXPECT_EQ(raw(10, 1).validate(payload(values)), Reason::malformed);
    EXPECT_EQ(raw(10).validate(payload(values).first(39)), Reason::malformed);
    EXPECT_EQ(raw(9).validate(payload(values).first(39)), Reason::malformed);
    EXPECT_EQ(raw(1).validate({}), Reason::malformed);
}

TEST(RawCodec, FindsWhatIsNotFiniteAtEveryPlace) {
    using Limits = std::numeric_limits<float>;
    const std::vector<float> bad{Limits::quiet_NaN(), -Limits::quiet_NaN(), Limits::signaling_NaN(), Limits::infinity(),
                                 -Limits::infinity()};
    on_every_simd_target([&](const char* target) {
        // Around one and several vectors, and around the four places read side by side.
        for (const std::size_t size : {1u, 3u, 4u, 16u, 17u, 67u, 16384u, 16384u + 37u}) {
            const RawCodec codec = raw(size - size / 3, size / 3);
            std::vector<float> values(size, Limits::max());
            values[size / 2] = -Limits::max();
            values[0] = Limits::denorm_min();
            ASSERT_EQ(codec.validate(payload(values)), Reason::none) << target << ' ' << size;
            const std::size_t stride = size < 100 ? 1 : 37; // coprime to every vector's length
            for (std::size_t place = 0; place < size; place += stride) {
                const float good = values[place];
                values[place] = bad[place % bad.size()];
                ASSERT_EQ(codec.validate(payload(values)), Reason::not_finite) << target << ' ' << place;
                values[place] = good;
            }
            values[size - 1] = Limits::infinity();
            ASSERT_EQ(codec.validate(payload(values)), Reason::not_finite) << target << ' ' << size;
        }
    });
}

RC_GTEST_PROP(RawCodec, SumsAsTheSlowLoopOnEveryTarget, ()) {
    RandomStream stream(*rc::gen::arbitrary<std::uint64_t>(), Purpose::test);
    const auto size = *rc::gen::inRange<std::size_t>(0, 300);
    const auto first = *rc::gen::inRange<std::size_t>(0, 50);
    const auto terms = *rc::gen::inRange<std::size_t>(1, 14);
    std::vector<std::vector<float>> gradients;
    std::vector<EncodedTerm> encoded;
    const std::vector<float> coefficients = random_floats(stream, terms);
    for (std::size_t t = 0; t < terms; ++t) {
        gradients.push_back(random_floats(stream, first + size + 3));
        encoded.push_back({payload(gradients.back()), coefficients[t]});
    }
    const std::vector<float> expected = slow_sum(gradients, coefficients, first, size);
    on_every_simd_target([&](const char* target) {
        std::vector<float> sum(size + 1, 7);
        raw(first + size + 3).weighted_sum(encoded, first, std::span(sum).first(size));
        RC_LOG() << target << '\n';
        RC_ASSERT(sum.back() == 7);
        sum.pop_back();
        RC_ASSERT(same_bits(sum, expected));
    });
}

TEST(RawCodec, RoundsTheProductByItself) {
    // x² = 1 + 2⁻¹¹ + 2⁻²⁴ rounds to 1 + 2⁻¹¹; a fused multiply-add would leave 2⁻²⁴.
    const float x = 1 + 0x1p-12f;
    const std::vector<float> a{-(x * x)}, b{x};
    const std::vector<EncodedTerm> terms{{payload(a), 1}, {payload(b), x}};
    on_every_simd_target([&](const char* target) {
        std::vector<float> sum(1);
        raw(1).weighted_sum(terms, 0, sum);
        EXPECT_EQ(sum[0], 0) << target;
    });
}

} // namespace
} // namespace lategrad
