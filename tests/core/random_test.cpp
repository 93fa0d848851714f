#include "lategrad/core/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <vector>

namespace lategrad {
namespace {

std::vector<std::uint64_t> draw(RandomStream stream, std::size_t count) {
    std::vector<std::uint64_t> values(count);
    for (auto& value : values) value = stream();
    return values;
}

template <class Draw>
double mean_of(int count, Draw draw) {
    double sum = 0;
    for (int i = 0; i < count; ++i) sum += draw();
    return sum / count;
}

// From an implementation in another language. Recorded runs replay only while these stay.
TEST(RandomStream, GoldenValues) {
    EXPECT_EQ(
        draw(RandomStream(0, Purpose::data), 4),
        (std::vector<std::uint64_t>{0x8ae91a1f69b3a317, 0xfa63eb1603d6b504, 0x1aceb1b2a362cec4, 0x209370150001861c}));
    EXPECT_EQ(
        draw(RandomStream(42, Purpose::straggle, {7, 1}), 4),
        (std::vector<std::uint64_t>{0x692872910eea3533, 0x18e4999bd257e721, 0x5c5229bab22e8059, 0x0c2f8080b3d573e4}));
    RandomStream stream(42, Purpose::data);
    EXPECT_EQ(stream.uniform(), 0.17385182017185785);
    EXPECT_EQ(stream.uniform(), 0.1820659324736218);
}

TEST(RandomStream, EveryPathIsAnotherStream) {
    std::set<std::uint64_t> firsts;
    int streams = 0;
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
        for (const Purpose purpose : {Purpose::data, Purpose::partition, Purpose::straggle}) {
            firsts.insert(RandomStream(seed, purpose)());
            ++streams;
            for (std::uint64_t a = 0; a < 4; ++a) {
                firsts.insert(RandomStream(seed, purpose, {a})());
                ++streams;
                for (std::uint64_t b = 0; b < 4; ++b) {
                    firsts.insert(RandomStream(seed, purpose, {a, b})());
                    ++streams;
                }
            }
        }
    }
    EXPECT_EQ(firsts.size(), static_cast<std::size_t>(streams));
}

TEST(RandomStream, UniformIsInRangeWithItsMeanAndVariance) {
    RandomStream stream(1, Purpose::test);
    double square = 0;
    const double mean = mean_of(100'000, [&] {
        const double x = stream.uniform();
        EXPECT_TRUE(x >= 0 && x < 1);
        square += (x - 0.5) * (x - 0.5) / 100'000;
        return x;
    });
    EXPECT_NEAR(mean, 0.5, 0.004);
    EXPECT_NEAR(square, 1.0 / 12, 0.002);
}

TEST(RandomStream, ExponentialHasItsMean) {
    RandomStream stream(2, Purpose::test);
    int above = 0;
    const double mean = mean_of(100'000, [&] {
        const double x = stream.exponential(3);
        EXPECT_GE(x, 0);
        above += x > 3;
        return x;
    });
    EXPECT_NEAR(mean, 3, 0.05);
    EXPECT_NEAR(above / 100'000.0, std::exp(-1.0), 0.006);
}

TEST(RandomStream, ParetoHasItsMeanAndItsFloor) {
    RandomStream stream(3, Purpose::test);
    const double mean = mean_of(100'000, [&] {
        const double x = stream.pareto(3, 2);
        EXPECT_GE(x, 2);
        return x;
    });
    EXPECT_NEAR(mean, 3, 0.05); // shape·scale/(shape − 1)
}

TEST(RandomStream, BelowIsEvenOverItsRange) {
    RandomStream stream(4, Purpose::test);
    for (const std::uint64_t bound : {1u, 2u, 3u, 7u, 10u}) {
        std::vector<int> counts(bound);
        for (int i = 0; i < 70'000; ++i) ++counts.at(stream.below(bound));
        const double expected = 70'000.0 / static_cast<double>(bound);
        for (const int count : counts) EXPECT_NEAR(count, expected, 5 * std::sqrt(expected)) << bound;
    }
}

TEST(RandomStream, BelowIsEvenWhereTheRemainderIsLarge) {
    // 3·2⁶² does not divide 2⁶⁴: without rejection every third value would come up twice as often as the others.
    RandomStream stream(5, Purpose::test);
    const std::uint64_t bound = std::uint64_t{3} << 62;
    std::vector<int> remainders(3), thirds(3);
    for (int i = 0; i < 60'000; ++i) {
        const std::uint64_t x = stream.below(bound);
        ASSERT_LT(x, bound);
        ++remainders[x % 3];
        ++thirds[x >> 62];
    }
    for (const int count : remainders) EXPECT_NEAR(count, 20'000, 600);
    for (const int count : thirds) EXPECT_NEAR(count, 20'000, 600);
}

TEST(RandomStream, ShuffleKeepsEveryValueAndReachesEveryOrder) {
    RandomStream stream(6, Purpose::test);
    std::set<std::vector<int>> orders;
    for (int i = 0; i < 1000; ++i) {
        std::vector<int> values{0, 1, 2, 3};
        stream.shuffle(std::span(values));
        orders.insert(values);
        std::ranges::sort(values);
        EXPECT_EQ(values, (std::vector<int>{0, 1, 2, 3}));
    }
    EXPECT_EQ(orders.size(), 24u);
}

} // namespace
} // namespace lategrad
