#include "lategrad/server/norm_limit.h"

#include <gtest/gtest.h>

namespace lategrad {
namespace {

TEST(NormLimit, KnowsNothingBeforeItHasSeenSome) {
    NormLimit limit(10);
    for (std::size_t i = 0; i < NormLimit::kKnown; ++i) EXPECT_FALSE(limit.rejects(i == 0 ? 1e30 : 1));
    EXPECT_TRUE(limit.rejects(10.001));
    EXPECT_FALSE(limit.rejects(10));
}

TEST(NormLimit, FollowsTheMedian) {
    NormLimit limit(10);
    for (std::size_t i = 0; i < NormLimit::kWindow; ++i) limit.rejects(1);
    EXPECT_EQ(limit.median(), 1);
    for (std::size_t i = 0; i < NormLimit::kWindow / 2 + 1; ++i) EXPECT_FALSE(limit.rejects(5));
    EXPECT_EQ(limit.median(), 5);
    EXPECT_FALSE(limit.rejects(50));
    EXPECT_TRUE(limit.rejects(51));
}

TEST(NormLimit, WhatIsRejectedDoesNotMoveIt) {
    NormLimit limit(10);
    for (std::size_t i = 0; i < NormLimit::kKnown; ++i) limit.rejects(1);
    for (int i = 0; i < 1000; ++i) EXPECT_TRUE(limit.rejects(1e6));
    EXPECT_EQ(limit.median(), 1);
}

TEST(NormLimit, ZerosAreNoMeasure) {
    NormLimit limit(10);
    for (std::size_t i = 0; i < NormLimit::kWindow; ++i) limit.rejects(0);
    EXPECT_FALSE(limit.rejects(1));
}

TEST(NormLimit, CanBeOff) {
    NormLimit limit(0);
    for (int i = 0; i < 100; ++i) EXPECT_FALSE(limit.rejects(i < 50 ? 1 : 1e30));
}

} // namespace
} // namespace lategrad
