#include "lategrad/data/partition.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "lategrad/core/error.h"
#include "tests/data/numbered_data.h"
#include "tests/files/temp_dir.h"

namespace lategrad {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Parts = std::vector<std::vector<std::uint32_t>>;

/// Labels 0, 1, …, classes − 1, 0, 1, …
NumberedData labelled(std::size_t examples, std::int64_t classes) {
    std::vector<std::int64_t> labels;
    for (std::size_t i = 0; i < examples; ++i) labels.push_back(static_cast<std::int64_t>(i) % classes);
    return NumberedData(std::move(labels), classes);
}

Parts divided(const Dataset& data, std::string_view spec, std::size_t workers, std::uint64_t seed = 1) {
    return divide(data, Partition::parse(spec), workers, seed);
}

/// FNV-1a over the parts, one after the other, each ended by a mark.
std::uint64_t checksum(const Parts& parts) {
    std::uint64_t hash = 0xcbf29ce484222325;
    const auto add = [&](std::uint32_t value) { hash = (hash ^ value) * 0x100000001b3; };
    for (const auto& part : parts) {
        for (const auto index : part) add(index);
        add(~0u);
    }
    return hash;
}

std::set<std::int64_t> classes_of(const std::vector<std::uint32_t>& part, const Dataset& data) {
    std::set<std::int64_t> classes;
    for (const auto index : part) classes.insert(data.labels()[index]);
    return classes;
}

RC_GTEST_PROP(Partition, GivesEveryExampleToOneWorkerAndSomeToEach, ()) {
    const auto workers = *rc::gen::inRange<std::size_t>(1, 20);
    const auto examples = *rc::gen::inRange<std::size_t>(workers, 200);
    const auto data = labelled(examples, *rc::gen::inRange<std::int64_t>(1, 12));
    const auto seed = *rc::gen::arbitrary<std::uint64_t>();
    for (const char* spec : {"iid", "contiguous", "label", "dirichlet:0.001", "dirichlet:0.5", "dirichlet:1000"}) {
        const Parts parts = divided(data, spec, workers, seed);
        RC_ASSERT(parts.size() == workers);
        std::vector<int> holders(examples);
        for (const auto& part : parts) {
            RC_ASSERT(!part.empty());
            if (std::string_view(spec).starts_with("dirichlet") == false)
                RC_ASSERT(part.size() == examples / workers || part.size() == (examples + workers - 1) / workers);
            for (const auto index : part) ++holders.at(index);
        }
        RC_ASSERT(std::count(holders.begin(), holders.end(), 1) == std::ssize(holders));
        RC_ASSERT(parts == divided(data, spec, workers, seed));
    }
}

/// What these pin is that a run's data does not move to other workers with the machine or the library version.
TEST(Partition, IsTheSameEverywhere) {
    const auto data = labelled(1000, 10);
    EXPECT_EQ(checksum(divided(data, "iid", 7)), 0xf5c1b7609f1803b2u);
    EXPECT_EQ(checksum(divided(data, "contiguous", 7)), 0x3f1d13fff2d63458u);
    EXPECT_EQ(checksum(divided(data, "label", 7)), 0x6f6866bced14a714u);
    EXPECT_EQ(checksum(divided(data, "dirichlet:0.1", 7)), 0x282aba28f7df8674u);
    EXPECT_EQ(checksum(divided(data, "dirichlet:5", 7)), 0x6a6e018b3129eb28u);
}

TEST(Partition, ContiguousKeepsTheFilesOrder) {
    EXPECT_THAT(divided(NumberedData(5), "contiguous", 2), ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3, 4)));
}

TEST(Partition, SharedGivesAllToEach) {
    EXPECT_THAT(divided(NumberedData(2), "shared", 3),
                ElementsAre(ElementsAre(0, 1), ElementsAre(0, 1), ElementsAre(0, 1)));
}

TEST(Partition, IidMixesAndDependsOnTheSeed) {
    const auto data = labelled(1000, 10);
    for (const auto& part : divided(data, "iid", 4)) EXPECT_EQ(classes_of(part, data).size(), 10u);
    EXPECT_NE(divided(data, "iid", 4, 1), divided(data, "iid", 4, 2));
}

TEST(Partition, LabelGivesEachWorkerFewClasses) {
    const auto data = labelled(1000, 10);
    const Parts parts = divided(data, "label", 5);
    for (std::int64_t worker = 0; worker < 5; ++worker)
        EXPECT_THAT(classes_of(parts[static_cast<std::size_t>(worker)], data), ElementsAre(2 * worker, 2 * worker + 1));
    EXPECT_NE(parts, divided(data, "label", 5, 2)); // within a class the seed decides
}

/// The share of one of n workers has mean 1/n and variance (1/n)(1 − 1/n)/(nA + 1).
TEST(Partition, DirichletSharesHaveTheirVariance) {
    constexpr std::size_t workers = 4, classes = 2000, per_class = 50;
    const auto data = labelled(classes * per_class, classes);
    for (const double alpha : {0.05, 0.5, 1.0, 10.0}) {
        const Parts parts = divide(data, {.kind = "dirichlet", .alpha = alpha}, workers, 1);
        double squares = 0;
        for (const auto& part : parts) {
            std::vector<double> share(classes);
            for (const auto index : part) share[static_cast<std::size_t>(data.labels()[index])] += 1.0 / per_class;
            for (const double s : share) squares += (s - 0.25) * (s - 0.25);
            EXPECT_NEAR(static_cast<double>(part.size()) / (classes * per_class), 0.25, 0.03);
        }
        const double variance = squares / (workers * classes);
        const double expected = 0.25 * 0.75 / (workers * alpha + 1);
        EXPECT_NEAR(variance / expected, 1, 0.07) << alpha;
    }
}

TEST(Partition, RefusesWhatCannotBeDivided) {
    const NumberedData regression(10);
    EXPECT_THAT(message_of([&] { divided(regression, "iid", 11); }), HasSubstr("--workers 11: more than the 10"));
    for (const char* spec : {"label", "dirichlet:1"})
        EXPECT_THAT(message_of([&] { divided(regression, spec, 2); }), HasSubstr("numbers to predict"));
}

TEST(Partition, RefusesOtherWords) {
    for (const char* spec : {"", "IID", "dirichlet", "iid:1"})
        EXPECT_THAT(message_of([&] { Partition::parse(spec); }), HasSubstr("expected iid, contiguous, label")) << spec;
    for (const char* spec : {"dirichlet:", "dirichlet:0", "dirichlet:-1", "dirichlet:nan", "dirichlet:inf",
                             "dirichlet:1x", "dirichlet:1e-300", "dirichlet: 1"})
        EXPECT_THAT(message_of([&] { Partition::parse(spec); }), HasSubstr("as in dirichlet:0.5")) << spec;
    EXPECT_EQ(Partition::parse("dirichlet:0.25").alpha, 0.25);
}

} // namespace
} // namespace lategrad
