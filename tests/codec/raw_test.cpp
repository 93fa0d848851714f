#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <limits>
#include <vector>

#include "lategrad/codec/codec.h"
#include "lategrad/core/error.h"
#include "lategrad/core/random.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/simd_targets.h"

namespace lategrad {
namespace {

std::span<const std::byte> payload(const std::vector<float>& values) {
    return std::as_bytes(std::span(values));
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

TEST(MakeCodec, NamesWhatThereIs) {
    EXPECT_EQ(make_codec("none")->name(), "none");
    try {
        make_codec("zip");
        FAIL();
    } catch (const InputError& error) {
        EXPECT_STREQ(error.what(), "--codec zip: expected none");
    }
}

TEST(RawCodec, EncodesByHandingOn) {
    BufferPool pool(64);
    const Buffer grad = pool.lease(16);
    EXPECT_EQ(make_codec("none")->encode(grad).data(), grad.data());
}

TEST(RawCodec, ChecksTheLength) {
    const auto codec = make_codec("none");
    const std::vector<float> values(10);
    EXPECT_EQ(codec->validate(payload(values), 10), Reason::none);
    EXPECT_EQ(codec->validate(payload(values), 9), Reason::malformed);
    EXPECT_EQ(codec->validate(payload(values), 11), Reason::malformed);
    EXPECT_EQ(codec->validate(payload(values).first(39), 10), Reason::malformed);
    EXPECT_EQ(codec->validate(payload(values).first(39), 9), Reason::malformed);
    EXPECT_EQ(codec->validate({}, 1), Reason::malformed);
    EXPECT_EQ(codec->validate({}, 0), Reason::none);
    EXPECT_EQ(codec->validate(payload(values), std::numeric_limits<std::size_t>::max() / 4 + 11), Reason::malformed);
}

TEST(RawCodec, FindsWhatIsNotFiniteAtEveryPlace) {
    using Limits = std::numeric_limits<float>;
    const std::vector<float> bad{Limits::quiet_NaN(), -Limits::quiet_NaN(), Limits::signaling_NaN(), Limits::infinity(),
                                 -Limits::infinity()};
    on_every_simd_target([&](const char* target) {
        const auto codec = make_codec("none");
        // Around one and several vectors, and around the four places read side by side.
        for (const std::size_t size : {1u, 3u, 4u, 16u, 17u, 67u, 16384u, 16384u + 37u}) {
            std::vector<float> values(size, Limits::max());
            values[size / 2] = -Limits::max();
            values[0] = Limits::denorm_min();
            ASSERT_EQ(codec->validate(payload(values), size), Reason::none) << target << ' ' << size;
            const std::size_t stride = size < 100 ? 1 : 37; // coprime to every vector's length
            for (std::size_t place = 0; place < size; place += stride) {
                const float good = values[place];
                values[place] = bad[place % bad.size()];
                ASSERT_EQ(codec->validate(payload(values), size), Reason::not_finite) << target << ' ' << place;
                values[place] = good;
            }
            values[size - 1] = Limits::infinity();
            ASSERT_EQ(codec->validate(payload(values), size), Reason::not_finite) << target << ' ' << size;
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
        make_codec("none")->weighted_sum(encoded, first, std::span(sum).first(size));
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
        make_codec("none")->weighted_sum(terms, 0, sum);
        EXPECT_EQ(sum[0], 0) << target;
    });
}

} // namespace
} // namespace lategrad
