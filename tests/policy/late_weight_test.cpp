#include <gtest/gtest.h>

#include <cmath>

#include "lategrad/core/error.h"
#include "lategrad/policy/late_weight.h"

namespace lategrad {
namespace {

double weight(const char* spec, std::uint64_t staleness, std::uint64_t span = 1, std::uint32_t gradients = 1) {
    return LateWeight::parse(spec).of(staleness, span, gradients);
}

TEST(LateWeight, IsTheFunctionOfStalenessItIsNamedAfter) {
    EXPECT_EQ(weight("one", 7), 1);
    EXPECT_EQ(weight("inverse", 3), 0.25);
    EXPECT_EQ(weight("sqrt", 3), 0.5);
    EXPECT_DOUBLE_EQ(weight("exp:0.5", 2), std::exp(-1.0));
    EXPECT_EQ(weight("span", 3, 4, 2), 2);
}

TEST(LateWeight, LeavesAFreshGradientOfASteadyWorkerAtOne) {
    for (const char* spec : {"one", "inverse", "sqrt", "exp:2", "span"}) EXPECT_EQ(weight(spec, 0), 1) << spec;
}

TEST(LateWeight, SaysItselfAsOnTheCommandLine) {
    for (const char* spec : {"one", "inverse", "sqrt", "exp:0.25", "span"})
        EXPECT_EQ(LateWeight::parse(spec).spec(), spec);
}

TEST(LateWeight, RefusesWhatDoesNotExist) {
    for (const char* spec : {"", "two", "exp", "exp:", "exp:-1", "exp:nan", "exp:1x"}) {
        EXPECT_THROW(LateWeight::parse(spec), InputError) << spec;
    }
}

} // namespace
} // namespace lategrad
