/// What codec.h promises, of every codec.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <limits>
#include <thread>

#include "tests/codec/allocations.h"
#include "tests/codec/coding.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/simd_targets.h"

namespace lategrad {
namespace {

const std::vector<std::string> kSpecs{
    "none",           "fp16",         "bf16",           "lz4",          "zstd",         "zstd:3",
    "zstd:-5",        "blosc",        "topk:0.01",      "topk:1",       "topk:0.3+lz4", "topk:0.01+zstd",
    "dgc:0.01",       "dgc:0.01,2",   "dgc:0.01+blosc", "randk:0.05",   "randk:1",      "randk:0.3+zstd",
    "qsgd:2",         "qsgd:4",       "qsgd:7",         "qsgd:8",       "qsgd:8+zstd",  "qsgd:3+lz4",
    "terngrad",       "terngrad+lz4", "signsgd",        "signsgd+zstd", "lowrank:2",    "lowrank:64",
    "lowrank:2+zstd", "bf16+lz4",     "bf16+blosc",     "bf16+zstd",    "fp16+zstd"};

/// Around vectors, buckets and both kinds of chunks.
const std::vector<std::size_t> kSizes{1, 7, 8, 9, 511, 513, 4095, 4096, 4097, 16383, 16384, 16385, 50021};

using Limits = std::numeric_limits<float>;

/// Of norm 1, tail included, which no gradient clipping touches.
std::vector<float> gradient(std::uint64_t seed, const CodecSetup& setup) {
    auto values = gaussian(seed, setup.elements + setup.tail);
    const auto norm = static_cast<float>(std::sqrt(squared_norm(values)));
    for (float& value : values) value /= norm;
    return values;
}

bool all_finite(std::span<const float> values) {
    return std::ranges::all_of(values, [](float value) { return std::isfinite(value); });
}

bool whole_is_finite(const Coding& coding, std::span<const std::byte> payload) {
    return all_finite(coding.decode(payload)) && all_finite(coding.codec().tail(payload));
}

float largest(std::span<const float> values) {
    float magnitude = 0;
    for (const float value : values) magnitude = std::max(magnitude, std::abs(value));
    return magnitude;
}

class CodecContract : public testing::TestWithParam<std::string> {};

std::string test_name(const testing::TestParamInfo<std::string>& info) {
    std::string name = info.param;
    for (char& c : name) {
        if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
    }
    return name;
}

INSTANTIATE_TEST_SUITE_P(, CodecContract, testing::ValuesIn(kSpecs), test_name);

std::vector<std::string> specs_with_error_feedback() {
    auto specs = kSpecs;
    std::erase_if(specs, [](const std::string& spec) { return !make_codec(spec, setup_of(8))->error_feedback(); });
    return specs;
}

class ErrorFeedback : public CodecContract {};

INSTANTIATE_TEST_SUITE_P(, ErrorFeedback, testing::ValuesIn(specs_with_error_feedback()), test_name);

TEST_P(CodecContract, HasAResidualOnlyWithErrorFeedback) {
    Coding coding(GetParam(), 100);
    EXPECT_EQ(coding.encoder()->residual().size(), coding.codec().error_feedback() ? 100u : 0u);
}

/// Each payload decoded by itself, then summed in order. Equal to weighted_sum bit for bit, but for the sign of zero:
/// where an entry does not travel nothing is added, which −0 + 0 would have made +0.
std::vector<float> slow_sum(const Coding& coding, std::span<const EncodedTerm> terms) {
    std::vector<float> sum;
    for (const EncodedTerm& term : terms) {
        const std::vector<float> values = coding.decode(term.payload);
        if (sum.empty()) {
            for (const float value : values) sum.push_back(term.coefficient * value);
            continue;
        }
        for (std::size_t i = 0; i < sum.size(); ++i) {
            const float product = term.coefficient * values[i];
            sum[i] += product;
        }
    }
    return sum;
}

TEST_P(CodecContract, WhatIsEncodedValidatesAndSumsAsTheSlowTwin) {
    constexpr std::array<float, 6> kCoefficients{0.3F, -1.7F, 0, 1, 1e-3F, 12.5F};
    for (const std::size_t size : kSizes) {
        for (const std::size_t tail : {0u, 3u}) {
            Coding coding(GetParam(), size, tail);
            std::vector<Buffer> payloads;
            std::vector<EncodedTerm> terms;
            for (std::uint32_t worker = 0; worker < kCoefficients.size(); ++worker) {
                const auto grad = gradient(worker, coding.setup());
                payloads.push_back(coding.encode(*coding.encoder(worker), grad, worker));
                const Buffer& payload = payloads.back();
                ASSERT_TRUE(payload);
                ASSERT_EQ(coding.validate(payload), Reason::none) << size;
                ASSERT_LE(payload.bytes(), coding.codec().payload_bytes_max());
                terms.push_back({{std::as_const(payload).data(), payload.bytes()}, kCoefficients[worker]});
                ASSERT_TRUE(same_bits(coding.codec().tail(terms.back().payload), std::span(grad).subspan(size)));
            }
            for (const std::size_t count : {1u, 2u, 5u, 6u}) {
                const auto some = std::span(terms).first(count);
                ASSERT_EQ(coding.weighted_sum(some), slow_sum(coding, some)) << size << ' ' << count;
            }
        }
    }
}

TEST_P(CodecContract, PayloadsAreAsLongAsItSays) {
    for (const std::size_t size : kSizes) {
        Coding coding(GetParam(), size, 2);
        const auto encoder = coding.encoder();
        RandomStream stream(1, Purpose::test);
        std::vector<float> any_bits(size + 2); // cannot be compressed
        for (float& value : any_bits) value = std::bit_cast<float>(static_cast<std::uint32_t>(stream() & 0xbfff'ffff));
        const std::vector<std::vector<float>> gradients{gradient(2, coding.setup()), std::vector<float>(size + 2),
                                                        std::vector<float>(size + 2, 0.25F), any_bits};
        for (const auto& grad : gradients) {
            const Buffer payload = coding.encode(*encoder, grad);
            ASSERT_TRUE(payload);
            ASSERT_EQ(coding.validate(payload), Reason::none);
            ASSERT_LE(payload.bytes(), coding.codec().payload_bytes_max());
        }
        ASSERT_LE(coding.codec().payload_bytes_typical(), coding.codec().payload_bytes_max());
    }
    Coding coding(GetParam(), 50021, 2);
    const auto late = 10; // behind dgc's warm-up
    const auto typical = static_cast<double>(coding.codec().payload_bytes_typical());
    const auto actual = static_cast<double>(coding.encode(gradient(3, coding.setup()), late).bytes());
    EXPECT_GT(actual / typical, 0.5); // how much a lossless stage finds is not known before
    EXPECT_LT(actual / typical, 1.1);
}

/// Σ decoded and applied + residual = Σ gradients. Tolerance: a few roundings each step, of what is as large as the
/// largest residual.
TEST_P(ErrorFeedback, LosesNothing) {
    for (const std::size_t size : {1u, 9u, 513u, 4097u, 16385u}) {
        Coding coding(GetParam(), size, 1);
        const auto encoder = coding.encoder();
        ASSERT_EQ(encoder->residual().size(), size);
        std::vector<double> sent(size), wanted(size);
        double scale = 0;
        constexpr int kSteps = 30;
        Buffer refused;
        for (int step = 0; step < kSteps; ++step) {
            const auto grad = gradient(static_cast<std::uint64_t>(step), coding.setup());
            Buffer payload = coding.encode(*encoder, grad, static_cast<std::uint64_t>(step));
            ASSERT_TRUE(payload);
            for (std::size_t i = 0; i < size; ++i) wanted[i] += grad[i];
            scale = std::max(
                {scale, static_cast<double>(largest(encoder->residual())), static_cast<double>(largest(grad))});
            if (refused) { // the verdict comes a step later
                encoder->refund({refused.data(), refused.bytes()});
                refused.reset();
            }
            if (step % 3 == 1) {
                refused = std::move(payload);
                continue;
            }
            const auto decoded = coding.decode(payload);
            for (std::size_t i = 0; i < size; ++i) sent[i] += decoded[i];
        }
        ASSERT_FALSE(refused);
        const double tolerance = kSteps * 8 * Limits::epsilon() * scale;
        for (std::size_t i = 0; i < size; ++i) {
            ASSERT_NEAR(sent[i] + encoder->residual()[i], wanted[i], tolerance) << size << ' ' << i;
        }
    }
}

TEST_P(ErrorFeedback, JoinsScaled) {
    Coding coding(GetParam(), 5000);
    const auto encoder = coding.encoder();
    const std::uint64_t late = 10; // behind dgc's warm-up
    ASSERT_TRUE(coding.encode(*encoder, gradient(1, coding.setup()), late));
    for (const float scale : {0.25F, 3.0F}) {
        const std::vector<float> before(encoder->residual().begin(), encoder->residual().end());
        const auto grad = gradient(2, coding.setup());
        const auto decoded = coding.decode(coding.encode(*encoder, grad, late, scale));
        const float tolerance = 8 * Limits::epsilon() * (largest(grad) + scale * largest(before));
        for (std::size_t i = 0; i < grad.size(); ++i) {
            ASSERT_NEAR(decoded[i] + encoder->residual()[i], grad[i] + scale * before[i], tolerance);
        }
    }
}

TEST_P(CodecContract, WhatIsNotFiniteLeavesTheResidualAsItWas) {
    for (const std::size_t size : {1u, 9u, 5000u, 20000u}) {
        Coding coding(GetParam(), size, 1);
        const auto encoder = coding.encoder();
        for (std::uint64_t step = 0; step < 3; ++step)
            ASSERT_TRUE(coding.encode(*encoder, gradient(step, coding.setup()), step));
        for (const float bad : {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity()}) {
            for (const std::size_t place : {std::size_t{0}, size / 2, size - 1, size}) { // the last one is the tail
                // Next to values that the residual would be lost in.
                std::vector<float> grad(size + 1, 1e9F);
                grad[place] = bad;
                const std::vector<float> before(encoder->residual().begin(), encoder->residual().end());
                const Buffer payload = coding.encode(*encoder, grad, 5, 0.5F);
                // Without error feedback the other side may be who finds it.
                if (payload) {
                    ASSERT_TRUE(before.empty());
                    ASSERT_EQ(coding.validate(payload), Reason::not_finite);
                }
                ASSERT_TRUE(same_bits(encoder->residual(), before)) << size << ' ' << place;
                const Buffer next = coding.encode(*encoder, gradient(10, coding.setup()), 6);
                ASSERT_TRUE(next);
                ASSERT_EQ(coding.validate(next), Reason::none);
            }
        }
    }
}

/// Sums must be made before one is found to overflow: what is left of them has their rounding.
TEST(SumsThatOverflow, LeaveTheResidualToRounding) {
    constexpr std::size_t kSize = 20000, kLarge = 500;
    // Times what is left of the large ones, more than any float; of the chunks before them not.
    for (const auto& [spec, scale] : {std::pair{"signsgd", 1e37F},
                                      {"signsgd+zstd", 3e36F},
                                      {"topk:0.01", 1e37F},
                                      {"dgc:0.01", 1e37F},
                                      {"randk:0.05", 1e37F}}) {
        Coding coding(spec, kSize);
        const auto encoder = coding.encoder();
        auto grad = gaussian(1, kSize, 0.01);
        std::fill(grad.end() - kLarge, grad.end(), 100.0F); // more than are sent, in the last chunk
        ASSERT_TRUE(coding.encode(*encoder, grad, 5));
        const std::vector<float> before(encoder->residual().begin(), encoder->residual().end());
        ASSERT_FALSE(coding.encode(*encoder, gaussian(2, kSize, 0.01), 6, scale)) << spec;
        for (std::size_t i = 0; i < kSize; ++i) {
            ASSERT_NEAR(encoder->residual()[i], before[i], 8 * Limits::epsilon() * 100) << spec << ' ' << i;
        }
    }
}

TEST(SumsThatOverflow, LeaveNoInfinityWhereTheResidualHardlyCounts) {
    constexpr std::size_t kSize = 20000;
    for (const char* spec : {"signsgd", "topk:0.01", "dgc:0.01", "lowrank:1"}) {
        CodecSetup setup = setup_of(kSize);
        setup.tensors = {{.rows = 100, .columns = 200}};
        Coding coding(spec, setup);
        const auto encoder = coding.encoder();
        ASSERT_TRUE(coding.encode(*encoder, gaussian(1, kSize, 0.01), 5));
        auto grad = gaussian(2, kSize, 1e9);
        std::fill(grad.end() - 200, grad.end(), Limits::max()); // their sum is more than any float
        coding.encode(*encoder, grad, 6, Limits::min());
        EXPECT_TRUE(all_finite(encoder->residual())) << spec;
    }
}

TEST_P(CodecContract, WhatOverflowsIsNotSentOn) {
    for (const float value : {1e5F, 1e19F, 1e30F, Limits::max()}) {
        Coding coding(GetParam(), 5000);
        const auto encoder = coding.encoder();
        for (std::uint64_t step = 0; step < 4; ++step) {
            std::vector<float> grad = gaussian(step, 5000, 0.01 * value);
            grad[17] = value;
            const Buffer payload = coding.encode(*encoder, grad, step + 10);
            ASSERT_TRUE(all_finite(encoder->residual())) << value << ' ' << step;
            if (!payload) continue;
            ASSERT_EQ(coding.validate(payload), Reason::none) << value;
            ASSERT_TRUE(whole_is_finite(coding, {payload.data(), payload.bytes()})) << value;
        }
    }
}

TEST_P(CodecContract, ARefusedGradientHoldsNoMemory) {
    Coding coding(GetParam(), 5000);
    const auto grad = gradient(1, coding.setup());
    auto bad = grad;
    bad[4999] = Limits::infinity();
    const auto bytes_after = [&](std::initializer_list<std::vector<float>> gradients) {
        BufferPool payloads(std::size_t{1} << 20);
        const auto encoder = coding.codec().make_encoder(WorkerId(0), payloads);
        for (const auto& gradient : gradients) coding.encode(*encoder, gradient);
        return payloads.bytes_allocated();
    };
    EXPECT_LE(bytes_after({grad, bad, grad}), bytes_after({grad, grad}) * 3 / 2); // not one more
}

TEST_P(CodecContract, TheSameBytesFromTheSameInputsAndSeed) {
    constexpr std::size_t kSize = 17000;
    constexpr std::uint32_t kWorkers = 3;
    Coding coding(GetParam(), kSize, 2);
    const auto all_steps = [&](Coding& of, std::uint32_t worker) {
        std::vector<std::vector<std::byte>> payloads;
        const auto encoder = of.encoder(worker);
        for (std::uint64_t step = 0; step < 3; ++step) {
            payloads.push_back(bytes_of(of.encode(*encoder, gradient(step, of.setup()), step)));
        }
        return payloads;
    };
    std::vector<std::vector<std::vector<std::byte>>> expected, on_threads(kWorkers);
    std::vector<std::vector<float>> decoded, decoded_on_threads(kWorkers);
    for (std::uint32_t worker = 0; worker < kWorkers; ++worker) {
        Coding another(GetParam(), kSize, 2);
        expected.push_back(all_steps(another, worker));
        decoded.push_back(coding.decode(expected.back().back()));
    }
    std::vector<std::thread> threads;
    for (std::uint32_t worker = 0; worker < kWorkers; ++worker) {
        threads.emplace_back([&, worker] {
            on_threads[worker] = all_steps(coding, worker);
            decoded_on_threads[worker] = coding.decode(on_threads[worker].back());
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (std::uint32_t worker = 0; worker < kWorkers; ++worker) {
        EXPECT_EQ(on_threads[worker], expected[worker]);
        EXPECT_TRUE(same_bits(decoded_on_threads[worker], decoded[worker]));
    }
}

TEST_P(CodecContract, TheSameBytesAndFloatsOnEveryTarget) {
    for (const std::size_t size : {5u, 513u, 17001u}) {
        Coding coding(GetParam(), size, 2);
        std::vector<std::vector<std::byte>> expected;
        std::vector<float> sum;
        on_every_simd_target([&](const char* target) {
            std::vector<std::vector<std::byte>> payloads;
            std::vector<EncodedTerm> terms;
            const auto encoder = coding.encoder();
            for (std::uint64_t step = 0; step < 3; ++step) {
                payloads.push_back(bytes_of(coding.encode(*encoder, gradient(step, coding.setup()), step)));
            }
            for (const auto& payload : payloads) terms.push_back({payload, 0.7F});
            const auto of_target = coding.weighted_sum(terms);
            if (expected.empty()) {
                expected = payloads;
                sum = of_target;
            }
            ASSERT_EQ(payloads, expected) << target << ' ' << size;
            ASSERT_TRUE(same_bits(of_target, sum)) << target << ' ' << size;
        });
    }
}

std::vector<std::byte> changed_at_random(std::vector<std::byte> payload, RandomStream& stream) {
    const auto place = [&] { return static_cast<std::size_t>(stream.below(payload.size())); };
    for (std::uint64_t changes = 1 + stream.below(4); changes > 0; --changes) {
        const std::size_t at = place();
        switch (stream.below(6)) {
        case 0: payload[at] = static_cast<std::byte>(stream.below(256)); break;
        case 1: payload[at] ^= static_cast<std::byte>(1U << stream.below(8)); break;
        case 2:
            payload[at] = std::array{std::byte{0}, std::byte{0x7f}, std::byte{0x80}, std::byte{0xff}}[stream.below(4)];
            break;
        case 3: // a run of one byte
            std::fill_n(payload.begin() + static_cast<std::ptrdiff_t>(at),
                        std::min<std::size_t>(payload.size() - at, stream.below(16)),
                        static_cast<std::byte>(stream.below(256)));
            break;
        case 4: // a piece from elsewhere
            std::copy_n(payload.begin() + static_cast<std::ptrdiff_t>(place()) / 2,
                        std::min((payload.size() - at) / 2, static_cast<std::size_t>(stream.below(64))),
                        payload.begin() + static_cast<std::ptrdiff_t>(at));
            break;
        case 5: // among the lengths and counts
            payload[8 + stream.below(std::min<std::size_t>(40, payload.size() - 8))] =
                static_cast<std::byte>(stream.below(256));
            break;
        }
    }
    return payload;
}

/// Hostile bytes. `none` has no checksum and takes all floats that are finite.
class HostileBytes : public CodecContract {
  public:
    static bool sealed() { return GetParam() != "none"; }

    /// Bytes that were changed have one of three outcomes; what passes decodes, to what is finite, always the same.
    static Reason outcome(const Coding& coding, std::span<const std::byte> payload) {
        const Reason reason = coding.validate(payload);
        if (reason == Reason::none) {
            const auto once = coding.decode(payload);
            EXPECT_TRUE(all_finite(once));
            EXPECT_TRUE(all_finite(coding.codec().tail(payload)));
            leave_other_bytes_behind();
            EXPECT_TRUE(same_bits(coding.decode(payload), once));
        } else {
            EXPECT_TRUE(reason == Reason::malformed || reason == Reason::not_finite);
        }
        return reason;
    }

  private:
    /// In this thread's room for a chunk.
    static void leave_other_bytes_behind() {
        static const Coding other("zstd", 1000);
        static const std::vector<std::byte> payload =
            bytes_of(Coding("zstd", 1000).encode(std::vector<float>(1000, 0x1.5p13F)));
        other.decode(payload);
    }
};

INSTANTIATE_TEST_SUITE_P(, HostileBytes, testing::ValuesIn(kSpecs), test_name);

TEST_P(HostileBytes, OfAnotherLength) {
    for (const std::size_t size : {9u, 600u, 5000u}) {
        Coding coding(GetParam(), size, 2);
        const auto payload = bytes_of(coding.encode(gradient(1, coding.setup())));
        // All lengths near both ends, and some between.
        for (std::size_t length = 0; length < payload.size();
             length += length < 100 || length + 40 > payload.size() ? 1 : 37) {
            std::vector<std::byte> less(payload.begin(), payload.begin() + static_cast<std::ptrdiff_t>(length));
            ASSERT_EQ(coding.validate(less), Reason::malformed) << size << ' ' << length;
            reseal(less);
            ASSERT_EQ(coding.validate(less), Reason::malformed) << size << ' ' << length;
        }
        for (const std::size_t extra : {1u, 2u, 3u, 4u, 8u, 64u, 100000u}) {
            auto more = payload;
            more.resize(payload.size() + extra);
            ASSERT_EQ(coding.validate(more), Reason::malformed);
            reseal(more);
            ASSERT_EQ(coding.validate(more), Reason::malformed);
        }
    }
}

TEST_P(HostileBytes, WithABitFlipped) {
    for (const std::size_t size : {9u, 300u, 5000u}) {
        Coding coding(GetParam(), size, 2);
        auto payload = bytes_of(coding.encode(gradient(1, coding.setup())));
        const std::size_t bits = 8 * payload.size();
        const std::size_t stride = bits < 2000 ? 1 : bits / 1000 + 2;
        for (std::size_t bit = 0; bit < bits; bit += bit < 400 ? 1 : stride) {
            const auto mask = static_cast<std::byte>(1U << bit % 8);
            payload[bit / 8] ^= mask;
            const Reason reason = outcome(coding, payload);
            if (sealed()) {
                ASSERT_EQ(reason, Reason::malformed) << size << ' ' << bit;
                auto again = payload;
                reseal(again);
                outcome(coding, again);
            }
            ASSERT_FALSE(HasFailure()) << size << ' ' << bit;
            payload[bit / 8] ^= mask;
        }
        ASSERT_EQ(coding.validate(payload), Reason::none);
    }
}

/// Every aligned word of the beginning, where lengths, counts and the table stand, becomes what overflows.
TEST_P(HostileBytes, WithCountsThatOverflow) {
    Coding coding(GetParam(), 40000, 2);
    const auto payload = bytes_of(coding.encode(gradient(1, coding.setup())));
    for (std::size_t at = 8; at < 100; at += 4) {
        for (const std::uint32_t word : {0xffffffffU, 0xfffffffcU, 0x80000000U, 0x7fffffffU, 0U, 1U}) {
            auto changed = payload;
            std::memcpy(&changed[at], &word, sizeof word);
            if (changed == payload) continue;
            reseal(changed);
            outcome(coding, changed);
            ASSERT_FALSE(HasFailure()) << at << ' ' << word;
            // Which codec, how many bytes.
            if (sealed() && at < 16) {
                ASSERT_EQ(coding.validate(changed), Reason::malformed);
            }
        }
    }
}

TEST_P(HostileBytes, MakeNobodyAllocate) {
    if (GetParam().ends_with("blosc")) return; // its library takes room for a block, which it bounds, at every call
    Coding coding(GetParam(), 40000, 2);
    const auto payload = bytes_of(coding.encode(gradient(1, coding.setup())));
    ASSERT_EQ(coding.validate(payload), Reason::none); // rooms have grown
    RandomStream stream(3, Purpose::test);
    for (int i = 0; i < 200; ++i) {
        auto changed = changed_at_random(payload, stream);
        reseal(changed);
        const long before = allocations();
        coding.validate(changed);
        ASSERT_EQ(allocations(), before) << i;
    }
}

TEST_P(HostileBytes, OfAnotherCodec) {
    Coding coding(GetParam(), 5000, 2);
    for (const std::string& spec : kSpecs) {
        if (spec == GetParam()) continue;
        Coding other(spec, 5000, 2);
        const auto payload = bytes_of(other.encode(gradient(1, other.setup())));
        EXPECT_EQ(coding.validate(payload), Reason::malformed) << spec;
    }
}

TEST_P(HostileBytes, OfAnotherModel) {
    Coding coding(GetParam(), 5000, 2);
    for (const std::size_t size : {1u, 4999u, 5001u, 8000u, 50000u}) {
        Coding other(GetParam(), size, 2);
        EXPECT_EQ(coding.validate(other.encode(gradient(1, other.setup()))), Reason::malformed) << size;
    }
}

TEST_P(HostileBytes, ChangedAtRandom) {
    rc::check([] {
        RandomStream stream(*rc::gen::arbitrary<std::uint64_t>(), Purpose::test);
        const auto size = *rc::gen::element<std::size_t>(3, 40, 513, 4100, 17000);
        Coding coding(GetParam(), size, 1);
        const auto payload = bytes_of(coding.encode(gradient(stream(), coding.setup())));
        for (int i = 0; i < 8; ++i) {
            auto changed = changed_at_random(payload, stream);
            reseal(changed);
            outcome(coding, changed);
            RC_ASSERT(!HasFailure());
        }
    });
}

} // namespace
} // namespace lategrad
