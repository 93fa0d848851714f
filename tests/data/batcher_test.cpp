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

std::vector<float> draw(Batcher& batcher, std::uint64_t step) {
    Batch batch;
    batcher.draw(Step(step), batch);
    return batch.features;
}

RC_GTEST_PROP(Batcher, AnEpochVisitsEveryExampleOnce, ()) {
    const auto examples = *rc::gen::inRange<std::size_t>(1, 60);
    const auto batch_size = *rc::gen::inRange<std::size_t>(1, 100);
    Batcher batcher(kData, part_of(examples), batch_size, 7, WorkerId(2));
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
    Batcher sequential(kData, part_of(examples), batch_size, 7, WorkerId(2));
    std::vector<std::vector<float>> expected;
    for (std::uint64_t step = 0; step < 20; ++step) expected.push_back(draw(sequential, step));
    Batcher jumping(kData, part_of(examples), batch_size, 7, WorkerId(2));
    for (const auto step : steps) RC_ASSERT(draw(jumping, step) == expected[step]);
}

TEST(Batcher, EpochsWorkersAndSeedsDiffer) {
    Batcher batcher(kData, part_of(300), 300, 7, WorkerId(2));
    Batcher other_worker(kData, part_of(300), 300, 7, WorkerId(3));
    Batcher other_seed(kData, part_of(300), 300, 8, WorkerId(2));
    const auto first = draw(batcher, 0);
    EXPECT_NE(first, draw(batcher, 1));
    EXPECT_NE(first, draw(other_worker, 0));
    EXPECT_NE(first, draw(other_seed, 0));
}

TEST(BatchShares, AddUpToTheGlobalBatch) {
    EXPECT_THAT(batch_shares(256, 8), ElementsAre(32, 32, 32, 32, 32, 32, 32, 32));
    EXPECT_THAT(batch_shares(11, 4), ElementsAre(3, 3, 3, 2));
    EXPECT_THAT(batch_shares(3, 3), ElementsAre(1, 1, 1));
}

TEST(BatchSharesDeathTest, EveryWorkerNeedsAnExample) {
    EXPECT_DEATH(batch_shares(3, 4), "workers <= batch_size");
}

} // namespace
} // namespace lategrad
