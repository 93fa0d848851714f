#include "lategrad/data/batcher.h"

#include <algorithm>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/data/numbered_data.h"

namespace lategrad {
namespace {

using testing::ElementsAre;

const auto kData = std::make_shared<NumberedData>(1000);

/// Every third example, from `examples` of them.
std::vector<std::uint32_t> part_of(std::size_t examples) {
    std::vector<std::uint32_t> part;
    for (std::uint32_t i = 0; i < examples; ++i) part.push_back(3 * i);
    return part;
}

Batcher batcher_of(std::size_t examples, std::size_t batch_size, std::uint64_t seed = 7) {
    return {kData, std::make_shared<const Parts>(4, part_of(examples)), batch_size, seed};
}

std::vector<float> draw(Batcher& batcher, std::uint64_t step, std::uint32_t part = 2) {
    Batch batch;
    batcher.draw({.part = part, .position = step * batcher.batch_size()}, batch);
    return batch.features;
}

RC_GTEST_PROP(Batcher, AnEpochVisitsEveryExampleOnce, ()) {
    const auto examples = *rc::gen::inRange<std::size_t>(1, 60);
    const auto batch_size = *rc::gen::inRange<std::size_t>(1, 100);
    Batcher batcher = batcher_of(examples, batch_size);
    std::vector<float> sequence;
    for (std::uint64_t step = 0; sequence.size() < 3 * examples; ++step) {
        const auto batch = draw(batcher, step);
        RC_ASSERT(batch.size() == batch_size);
        sequence.insert(sequence.end(), batch.begin(), batch.end());
    }
    const auto part = part_of(examples);
    for (std::size_t epoch = 0; epoch < 3; ++epoch) {
        const auto begin = sequence.begin() + static_cast<std::ptrdiff_t>(epoch * examples);
        std::vector<float> visited(begin, begin + static_cast<std::ptrdiff_t>(examples));
        std::sort(visited.begin(), visited.end());
        RC_ASSERT(std::equal(visited.begin(), visited.end(), part.begin(), part.end()));
    }
}

RC_GTEST_PROP(Batcher, AnyOrderOfStepsDrawsTheSame, ()) {
    const auto examples = *rc::gen::inRange<std::size_t>(1, 60);
    const auto batch_size = *rc::gen::inRange<std::size_t>(1, 100);
    const auto steps = *rc::gen::container<std::vector<std::uint64_t>>(rc::gen::inRange<std::uint64_t>(0, 20));
    Batcher sequential = batcher_of(examples, batch_size);
    std::vector<std::vector<float>> expected;
    for (std::uint64_t step = 0; step < 20; ++step) expected.push_back(draw(sequential, step));
    Batcher jumping = batcher_of(examples, batch_size);
    for (const auto step : steps) RC_ASSERT(draw(jumping, step) == expected[step]);
}

RC_GTEST_PROP(Batcher, WhoDrawsAndWhatWasDrawnOfOtherPartsDecideNothing, ()) {
    const auto positions = *rc::gen::container<std::vector<std::uint64_t>>(rc::gen::inRange<std::uint64_t>(0, 500));
    Batcher first = batcher_of(30, 4);
    Batcher second = batcher_of(30, 4);
    Batch one, other;
    for (const auto position : positions) {
        second.draw({.part = 1, .position = 3 * position}, other);
        first.draw({.part = 3, .position = position}, one);
        second.draw({.part = 3, .position = position}, other);
        RC_ASSERT(one.features == other.features);
    }
}

TEST(Batcher, EpochsPartsAndSeedsDiffer) {
    Batcher batcher = batcher_of(300, 300);
    Batcher other_seed = batcher_of(300, 300, 8);
    const auto first = draw(batcher, 0);
    EXPECT_NE(first, draw(batcher, 1));
    EXPECT_NE(first, draw(batcher, 0, 3));
    EXPECT_NE(first, draw(other_seed, 0));
}

std::vector<std::size_t> even_parts(std::size_t workers) {
    return std::vector<std::size_t>(workers, 100);
}

TEST(BatchShares, AreEqualForEvenParts) {
    EXPECT_THAT(batch_shares(256, even_parts(8)), ElementsAre(32, 32, 32, 32, 32, 32, 32, 32));
    EXPECT_THAT(batch_shares(11, even_parts(4)), ElementsAre(3, 3, 3, 2));
    EXPECT_THAT(batch_shares(3, even_parts(3)), ElementsAre(1, 1, 1));
    const std::vector<std::size_t> differing_by_one = {7501, 7500, 7500, 7500, 7500, 7500, 7500, 7500};
    EXPECT_THAT(batch_shares(256, differing_by_one), ElementsAre(32, 32, 32, 32, 32, 32, 32, 32));
}

TEST(BatchShares, AreInProportionToUnevenParts) {
    EXPECT_THAT(batch_shares(20, std::vector<std::size_t>{500, 300, 200}), ElementsAre(10, 6, 4));
    EXPECT_THAT(batch_shares(10, std::vector<std::size_t>{997, 1, 1, 1}), ElementsAre(7, 1, 1, 1)) << "one at least";
}

RC_GTEST_PROP(BatchShares, AddUpAndAreWithinOneOfTheirProportion, ()) {
    const auto parts =
        *rc::gen::nonEmpty(rc::gen::container<std::vector<std::size_t>>(rc::gen::inRange<std::size_t>(1, 5000)));
    const auto batch = parts.size() + *rc::gen::inRange<std::size_t>(0, 1000);
    const auto shares = batch_shares(batch, parts);
    RC_ASSERT(std::accumulate(shares.begin(), shares.end(), std::size_t{0}) == batch);
    const auto total = static_cast<double>(std::accumulate(parts.begin(), parts.end(), std::size_t{0}));
    bool tiny = false; // a part that got one example out of turn, which others gave up
    for (const std::size_t part : parts) tiny |= static_cast<double>(batch * part) < total;
    for (std::size_t i = 0; i < parts.size(); ++i) {
        RC_ASSERT(shares[i] >= 1u);
        const double exact = static_cast<double>(batch * parts[i]) / total;
        if (!tiny) RC_ASSERT(std::abs(shares[i] - exact) < 1);
    }
}

TEST(BatchSharesDeathTest, EveryWorkerNeedsAnExample) {
    EXPECT_DEATH(batch_shares(3, even_parts(4)), "workers <= batch_size");
}

} // namespace
} // namespace lategrad
