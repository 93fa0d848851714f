#include <gtest/gtest.h>

#include <cmath>

#include "lategrad/core/error.h"
#include "lategrad/policy/late_weight.h"

namespace lategrad {
namespace {

double weight(const char* spec, std::uint64_t staleness, std::uint64_t span = 1, std::uint32_t gradients = 1) {
    return LateWeight::parse(spec).of({.staleness = staleness,
                                       .span_updates = span,
                                       .gradients = gradients,
                                       .fresh_examples = 8,
                                       .late_examples = 8});
}

TEST(LateWeight, IsTheFunctionOfStalenessItIsNamedAfter) {
    EXPECT_EQ(weight("one", 7), 1);
    EXPECT_EQ(weight("inverse", 3), 0.25);
    EXPECT_EQ(weight("sqrt", 3), 0.5);
    EXPECT_DOUBLE_EQ(weight("exp:0.5", 2), std::exp(-1.0));
    EXPECT_EQ(weight("span", 3, 4, 2), 2);
}

TEST(LateWeight, LeavesAFreshGradientOfASteadyWorkerAtOne) {
    for (const char* spec : {"one", "inverse", "sqrt", "exp:2", "span", "certified"})
        EXPECT_EQ(weight(spec, 0), 1) << spec;
}

TEST(LateWeight, CertifiedGivesTheLateOnesTheirShareOfTheFreshOnes) {
    LateWeight late = LateWeight::parse("certified");
    const auto weight = [&](double fresh_examples, double late_examples) {
        return late.of({.staleness = 2, .fresh_examples = fresh_examples, .late_examples = late_examples});
    };
    EXPECT_EQ(weight(16, 8), 0) << "nothing is known of the curvature";
    late.certify(1, 4);
    EXPECT_EQ(weight(16, 8), 0.25);
    EXPECT_EQ(weight(16, 1), 1) << "never more than a fresh one";
}

TEST(LateWeight, SaysItselfAsOnTheCommandLine) {
    for (const char* spec : {"one", "inverse", "sqrt", "exp:0.25", "span", "certified"})
        EXPECT_EQ(LateWeight::parse(spec).spec(), spec);
}

TEST(LateWeight, RefusesWhatDoesNotExist) {
    for (const char* spec : {"", "two", "exp", "exp:", "exp:-1", "exp:nan", "exp:1x"}) {
        EXPECT_THROW(LateWeight::parse(spec), InputError) << spec;
    }
}

} // namespace
} // namespace lategrad
