#include "lategrad/server/update.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

#include "lategrad/core/random.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/simd_targets.h"

namespace {

std::atomic<long> allocations{0};

} // namespace

// Counted, for the test that a steady state makes none. Not inlined: GCC would see malloc and free of different pairs.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
    ++allocations;
    if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
    std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}

namespace lategrad {
namespace {

using Floats = std::vector<float>;

constexpr std::size_t kPoolBytes = std::size_t{64} << 20;

Floats random_floats(RandomStream& stream, std::size_t size) {
    Floats values(size);
    for (float& value : values) value = static_cast<float>(stream.uniform() - 0.5);
    return values;
}

Buffer buffer_of(BufferPool& pool, const Floats& values) {
    Buffer buffer = pool.lease(values.size() * sizeof(float));
    std::ranges::copy(values, buffer.floats().begin());
    return buffer;
}

struct SlowTerm {
    Floats gradient;
    float coefficient;
    bool gives_buffers;
};

/// One update with SGD and momentum as anyone can read it.
void slow_update(const std::vector<SlowTerm>& terms, std::size_t trainable, float learning_rate, float momentum,
                 Floats& params, Floats& velocity) {
    for (std::size_t i = 0; i < trainable; ++i) {
        float sum = terms[0].coefficient * terms[0].gradient[i];
        for (std::size_t t = 1; t < terms.size(); ++t) {
            const float product = terms[t].coefficient * terms[t].gradient[i];
            sum = sum + product;
        }
        velocity[i] = velocity[i] * momentum + sum;
        params[i] = params[i] - velocity[i] * learning_rate;
    }
    for (std::size_t i = trainable; i < params.size(); ++i) {
        double sum = 0;
        int givers = 0;
        for (const SlowTerm& term : terms) {
            if (!term.gives_buffers) continue;
            sum += term.gradient[i];
            ++givers;
        }
        if (givers > 0) params[i] = static_cast<float>(sum / givers);
    }
}

RC_GTEST_PROP(FusedUpdate, IsTheSlowLoopOnEveryTargetAndAnyNumberOfThreads, ()) {
    const auto seed = *rc::gen::arbitrary<std::uint64_t>();
    // Below one vector, around one block (16,384), and over several.
    const auto trainable =
        *rc::gen::oneOf(rc::gen::inRange<std::size_t>(0, 40), rc::gen::inRange<std::size_t>(16'300, 16'500),
                        rc::gen::inRange<std::size_t>(50'000, 70'000));
    const auto tail = *rc::gen::inRange<std::size_t>(0, 20);
    const auto count = *rc::gen::inRange<std::size_t>(1, 10);
    const auto threads = *rc::gen::inRange<std::size_t>(1, 5);
    const auto in_place = *rc::gen::arbitrary<bool>();
    const auto givers = *rc::gen::container<std::vector<bool>>(count, rc::gen::arbitrary<bool>());

    const OptimizerOptions options{.kind = "sgd", .momentum = 0.9};
    const auto codec = make_codec("none", {.elements = trainable, .tail = tail});
    ThreadPool threads_pool(threads);
    on_every_simd_target([&](const char* target) {
        RC_LOG() << target << ", " << trainable << " + " << tail << ", " << count << " terms\n";
        RandomStream stream(seed, Purpose::test);
        BufferPool pool(kPoolBytes);
        const auto optimizer = make_optimizer(options, trainable);
        FusedUpdate update(*codec, *optimizer, trainable, trainable + tail);
        Floats params = random_floats(stream, trainable + tail), velocity(trainable);
        update.in = buffer_of(pool, params);
        for (int round = 1; round <= 2; ++round) {
            const Floats before = params;
            std::vector<SlowTerm> slow;
            update.terms.clear();
            for (std::size_t t = 0; t < count; ++t) {
                slow.push_back(
                    {random_floats(stream, trainable + tail), static_cast<float>(stream.uniform()), givers[t]});
                update.terms.push_back({buffer_of(pool, slow.back().gradient), slow.back().coefficient, givers[t]});
            }
            update.learning_rate = 0.5 / round;
            update.out = in_place ? update.in : pool.lease(params.size() * sizeof(float));
            slow_update(slow, trainable, static_cast<float>(update.learning_rate), 0.9f, params, velocity);
            update.run(threads_pool);
            RC_ASSERT(same_bits(update.out.floats(), params));
            if (!in_place) RC_ASSERT(same_bits(update.in.floats(), before));
            update.in = update.out;
        }
        RC_ASSERT(same_bits(optimizer->state()[0], velocity));
    });
}

/// Encoded payloads are decoded chunk by chunk: the same as decoding each of them whole.
TEST(FusedUpdate, DecodesWhatItSumsOnAnyNumberOfThreads) {
    constexpr std::size_t kTrainable = 70'000, kTail = 7;
    const CodecSetup setup{.elements = kTrainable, .tail = kTail, .tensors = {{350, 200}}};
    for (const char* spec : {"fp16", "bf16+zstd", "lz4", "topk:0.01", "topk:0.01+zstd", "dgc:0.01", "randk:0.05",
                             "qsgd:4", "terngrad", "signsgd", "lowrank:2"}) {
        const auto codec = make_codec(spec, setup);
        BufferPool pool(kPoolBytes);
        RandomStream stream(1, Purpose::test);
        std::vector<UpdateTerm> terms;
        std::vector<EncodedTerm> encoded;
        for (std::uint32_t i = 0; i < 6; ++i) {
            const auto encoder = codec->make_encoder(WorkerId{i}, pool);
            const Buffer gradient = buffer_of(pool, random_floats(stream, kTrainable + kTail));
            terms.push_back({encoder->encode(gradient, {.step = Step{i}}), 0.1F * static_cast<float>(i + 1), i == 2});
        }
        for (const UpdateTerm& term : terms)
            encoded.push_back({{term.payload.data(), term.payload.bytes()}, term.coefficient});
        const Floats params = random_floats(stream, kTrainable + kTail);
        Floats expected = params;
        Floats sum(codec->chunk());
        for (std::size_t first = 0; first < kTrainable; first += sum.size()) {
            const std::size_t size = std::min(sum.size(), kTrainable - first);
            codec->weighted_sum(encoded, first, std::span(sum).first(size));
            for (std::size_t i = 0; i < size; ++i) expected[first + i] = expected[first + i] - sum[i] * 0.5F;
        }
        std::ranges::copy(codec->tail(encoded[2].payload), expected.begin() + kTrainable);
        for (const std::size_t threads : {1, 3}) {
            ThreadPool threads_pool(threads);
            const auto optimizer = make_optimizer({.kind = "sgd"}, kTrainable);
            FusedUpdate update(*codec, *optimizer, kTrainable, kTrainable + kTail);
            update.in = buffer_of(pool, params);
            update.out = buffer_of(pool, Floats(params.size()));
            update.learning_rate = 0.5;
            update.terms = terms;
            update.run(threads_pool);
            EXPECT_TRUE(same_bits(std::as_const(update.out).floats(), expected)) << spec << ", " << threads;
        }
    }
}

/// What plain SGD at learning rate 1 makes of one parameter and the buffers behind it.
Floats updated(const Floats& params, const std::vector<SlowTerm>& terms) {
    BufferPool pool(kPoolBytes);
    ThreadPool threads(1);
    const auto codec = make_codec("none", {.elements = 1, .tail = params.size() - 1});
    const auto optimizer = make_optimizer({.kind = "sgd"}, 1);
    FusedUpdate update(*codec, *optimizer, 1, params.size());
    update.in = buffer_of(pool, params);
    update.out = buffer_of(pool, Floats(params.size()));
    update.learning_rate = 1;
    for (const SlowTerm& term : terms)
        update.terms.push_back({buffer_of(pool, term.gradient), term.coefficient, term.gives_buffers});
    update.run(threads);
    return {update.out.floats().begin(), update.out.floats().end()};
}

TEST(FusedUpdate, AveragesTheBuffersOfThoseThatGiveThem) {
    const Floats params = {8, 5, 6};
    const std::vector<SlowTerm> two_of_three = {
        {{1, 10, 20}, 0.5f, true}, {{2, 1e9f, 1e9f}, 0.25f, false}, {{4, 30, 60}, 0.25f, true}};
    EXPECT_TRUE(same_bits(updated(params, two_of_three), Floats{6, 20, 40}));
    EXPECT_TRUE(same_bits(updated(params, {{{2, 1e9f, 1e9f}, 0.5f, false}}), Floats{7, 5, 6}))
        << "nobody gives buffers: the old ones stay";
}

TEST(FusedUpdate, LeavesABufferThatNobodyChangesAsItIs) {
    for (std::size_t workers = 1; workers <= 12; ++workers) { // 0.1f three times, by 3 in floats, is another number
        EXPECT_EQ(updated({0, 0.1f}, std::vector<SlowTerm>(workers, {{1, 0.1f}, 0.1f, true}))[1], 0.1f) << workers;
    }
}

/// Every codec but blosc, whose library allocates for each chunk.
TEST(FusedUpdate, AllocatesNothingInTheSteadyState) {
    constexpr std::size_t kTrainable = 100'000, kSize = kTrainable + 10;
    const CodecSetup setup{.elements = kTrainable, .tail = kSize - kTrainable, .tensors = {{400, 250}}};
    for (const std::string spec :
         {"none", "fp16", "bf16", "bf16+lz4", "bf16+zstd", "lz4", "zstd", "topk:0.01", "topk:0.01+zstd", "dgc:0.01",
          "randk:0.05", "qsgd:4", "qsgd:8+zstd", "terngrad", "signsgd", "lowrank:2"}) {
        const auto codec = make_codec(spec, setup);
        // Decoders keep each thread's room for a chunk, and which thread takes part in a round is left to chance.
        ThreadPool threads(spec == "none" ? 3 : 1);
        BufferPool pool(kPoolBytes);
        RandomStream stream(1, Purpose::test);
        const Buffer gradient = codec->make_encoder(WorkerId{0}, pool)
                                    ->encode(buffer_of(pool, random_floats(stream, kSize)), {.step = Step{0}});
        for (const char* kind : {"sgd", "adam"}) {
            const auto optimizer = make_optimizer({.kind = kind}, kTrainable);
            FusedUpdate update(*codec, *optimizer, kTrainable, kSize);
            update.in = buffer_of(pool, Floats(kSize));
            update.learning_rate = 0.1;
            long before = 0;
            for (int round = 0; round < 10; ++round) {
                if (round == 2) before = allocations; // the first rounds lease both versions and grow the lists
                update.terms.clear();
                for (int t = 0; t < 6; ++t) update.terms.push_back({gradient, 0.1f, true});
                update.out = pool.lease(kSize * sizeof(float));
                update.run(threads);
                update.in = update.out;
                update.out.reset();
            }
            EXPECT_EQ(allocations - before, 0) << spec << ", " << kind;
            EXPECT_GT(before, 0);
        }
    }
}

} // namespace
} // namespace lategrad
