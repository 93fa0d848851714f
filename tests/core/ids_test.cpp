#include "lategrad/core/ids.h"

#include <gtest/gtest.h>

#include <type_traits>
#include <unordered_set>

namespace lategrad {
namespace {

template <class A, class B>
concept Comparable = requires(A a, B b) {
    a < b;
};
template <class A, class B>
concept Equatable = requires(A a, B b) {
    a == b;
};
template <class A, class B>
concept Subtractable = requires(A a, B b) {
    a - b;
};

static_assert(Comparable<Version, Version> && Equatable<Version, Version> && Subtractable<Version, Version>);
static_assert(!Comparable<Version, Step> && !Equatable<Version, Step> && !Subtractable<Version, Step>);
static_assert(!Equatable<WorkerId, Peer>);
static_assert(!std::is_convertible_v<std::uint64_t, Version> && !std::is_convertible_v<Version, std::uint64_t>);
static_assert(!std::is_constructible_v<Version, Step> && !std::is_assignable_v<Version&, Step>);
static_assert(!Equatable<Version, std::uint64_t>);

TEST(Ordinal, CountsAmongItsOwnKind) {
    EXPECT_EQ(Version{}.value(), 0u);
    EXPECT_EQ(Version{4}.next(), Version{5});
    EXPECT_LT(Version{4}, Version{5});
    EXPECT_EQ(Version{9} - Version{4}, 5u);
}

TEST(Ordinal, Hashes) {
    std::unordered_set<WorkerId> ids{WorkerId{1}, WorkerId{2}, WorkerId{1}};
    EXPECT_EQ(ids.size(), 2u);
}

} // namespace
} // namespace lategrad
