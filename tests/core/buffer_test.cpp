#include "lategrad/core/buffer.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <thread>
#include <vector>

namespace lategrad {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

TEST(Buffer, HoldsBytesAndFloats) {
    BufferPool pool(1000);
    Buffer buffer = pool.lease(12);
    EXPECT_EQ(buffer.bytes(), 12u);
    EXPECT_EQ(buffer.floats().size(), 3u);
    buffer.floats()[2] = 1.5f;
    const Buffer& same = buffer;
    EXPECT_EQ(same.floats()[2], 1.5f);
}

TEST(Buffer, EmptyHandleIsFalse) {
    const Buffer none;
    EXPECT_FALSE(none);
    EXPECT_FALSE(none.unique());
    EXPECT_EQ(none.bytes(), 0u);
    EXPECT_TRUE(none.floats().empty());
}

TEST(Buffer, CopiesShareAndMovesHandOver) {
    BufferPool pool(1000);
    Buffer first = pool.lease(8);
    EXPECT_TRUE(first.unique());
    Buffer second = first;
    EXPECT_EQ(second.data(), first.data());
    EXPECT_FALSE(first.unique());
    Buffer third = std::move(second);
    EXPECT_FALSE(second);
    EXPECT_FALSE(first.unique());
    third.reset();
    EXPECT_TRUE(first.unique());
    first = first;
    EXPECT_TRUE(first.unique());
}

TEST(BufferPool, AlignsToCacheLinesAndHugePages) {
    BufferPool pool(64 * kMiB);
    for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{65}, 2 * kMiB - 1}) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(pool.lease(bytes).data()) % 64, 0u) << bytes;
    }
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(pool.lease(2 * kMiB + 1).data()) % (2 * kMiB), 0u);
}

TEST(BufferPool, ReusesWhatCameBack) {
    BufferPool pool(1000);
    const std::byte* first = nullptr;
    for (int round = 0; round < 3; ++round) {
        Buffer buffer = pool.lease(1000);
        if (round == 0) first = buffer.data();
        EXPECT_EQ(buffer.data(), first);
        EXPECT_TRUE(buffer.unique());
        EXPECT_EQ(pool.bytes_allocated(), 1000u);
    }
}

TEST(BufferPool, GivesTheSmallestThatFits) {
    BufferPool pool(1000);
    std::optional<Buffer> large = pool.lease(600), small = pool.lease(100);
    const std::byte* const small_data = small->data();
    large.reset();
    small.reset();
    Buffer again = pool.lease(90);
    EXPECT_EQ(again.data(), small_data);
    EXPECT_EQ(again.bytes(), 90u);
    EXPECT_EQ(pool.bytes_allocated(), 700u);
}

TEST(BufferPool, HoldsLittleInLittle) {
    // A payload of ten bytes must not keep the memory of one of a thousand while it is held.
    BufferPool pool(2000);
    { const Buffer large = pool.lease(1000); }
    const Buffer small = pool.lease(10);
    EXPECT_EQ(pool.bytes_allocated(), 1010u);
    const Buffer half = pool.lease(500);
    EXPECT_EQ(pool.bytes_allocated(), 1010u) << "no more than twice as large";
}

TEST(BufferPool, SaysWhetherALeaseFits) {
    BufferPool pool(1000);
    EXPECT_TRUE(pool.has_room(1000));
    EXPECT_FALSE(pool.has_room(1001));
    Buffer held = pool.lease(600);
    EXPECT_TRUE(pool.has_room(400));
    EXPECT_FALSE(pool.has_room(401));
    held.reset();
    EXPECT_TRUE(pool.has_room(1000)) << "what came back makes room";
}

TEST(BufferPool, KeepsItsBoundToTheByte) {
    // Sizes that are no multiple of a page or a huge page: the pool's owner counts in the bytes it asks for.
    const std::size_t size = 2 * kMiB + 4;
    BufferPool pool(3 * size);
    std::vector<Buffer> leased;
    for (int i = 0; i < 3; ++i) leased.push_back(pool.lease(size));
    EXPECT_FALSE(pool.try_lease(1));
    EXPECT_EQ(pool.bytes_allocated(), 3 * size);
    leased.pop_back();
    EXPECT_TRUE(pool.try_lease(size));
}

TEST(BufferPool, RefusesSizesBeyondAnyMachine) {
    BufferPool pool(1000);
    EXPECT_FALSE(pool.try_lease(1001));
    EXPECT_FALSE(pool.try_lease(SIZE_MAX));
}

TEST(BufferPool, FreesIdleBlocksThatAreTooSmall) {
    BufferPool pool(1000);
    { const Buffer a = pool.lease(400), b = pool.lease(400); }
    EXPECT_EQ(pool.bytes_allocated(), 800u);
    const Buffer c = pool.lease(900);
    EXPECT_EQ(pool.bytes_allocated(), 900u);
}

TEST(BufferPoolDeathTest, LeasingBeyondTheBoundIsABug) {
    BufferPool pool(10);
    EXPECT_DEATH(pool.lease(11), "the pool's bound holds every lease");
}

TEST(BufferPool, BuffersOutliveIt) {
    std::optional<BufferPool> pool(std::in_place, 1000);
    Buffer buffer = pool->lease(400);
    pool->lease(400).reset(); // leaves an idle block behind
    pool.reset();
    buffer.floats()[99] = 2;
    Buffer copy = buffer;
    buffer.reset();
    EXPECT_EQ(copy.floats()[99], 2);
}

TEST(BufferPool, ThreadsShareIt) {
    constexpr std::size_t kThreads = 4, kBytes = 256;
    BufferPool pool(2 * kThreads * kBytes);
    {
        std::vector<std::jthread> threads;
        for (std::size_t t = 0; t < kThreads; ++t) {
            threads.emplace_back([&pool, t] {
                for (int round = 0; round < 2000; ++round) {
                    Buffer a = pool.lease(kBytes), b = pool.lease(kBytes);
                    for (float& value : a.floats()) value = static_cast<float>(t);
                    b = a;
                    for (const float value : b.floats()) CHECK(value == static_cast<float>(t));
                }
            });
        }
    }
    EXPECT_LE(pool.bytes_allocated(), 2 * kThreads * kBytes);
}

} // namespace
} // namespace lategrad
