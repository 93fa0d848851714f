#include "lategrad/sim/failures.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "lategrad/core/error.h"
#include "tests/files/temp_dir.h"

namespace lategrad {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(FailureModel, DrawsExponentialLifetimes) {
    const FailureModel model = FailureModel::parse("mtbf:60s,rejoin:10s,detect:500ms", 3);
    EXPECT_TRUE(model.random());
    EXPECT_EQ(model.rejoin(), std::chrono::seconds(10));
    EXPECT_EQ(model.detect(), std::chrono::milliseconds(500));
    double sum = 0;
    int long_ones = 0;
    constexpr int kDraws = 20'000;
    for (int i = 0; i < kDraws; ++i) {
        const double lifetime =
            seconds(model.lifetime(WorkerId{static_cast<std::uint32_t>(i % 7)}, static_cast<std::uint64_t>(i / 7)));
        sum += lifetime;
        long_ones += lifetime > 60 ? 1 : 0;
    }
    EXPECT_NEAR(sum / kDraws, 60, 1.5);
    EXPECT_NEAR(static_cast<double>(long_ones) / kDraws, std::exp(-1), 0.02);
    EXPECT_EQ(model.lifetime(WorkerId{2}, 5), FailureModel::parse("mtbf:60s,rejoin:1s", 3).lifetime(WorkerId{2}, 5));
}

TEST(FailureModel, ReadsAScriptInTheOrderOfTime) {
    const TempDir dir;
    const std::string file = dir.path() / "failures.csv";
    std::ofstream(file) << "worker,seconds,event\n1,2.5,join\n1,1.5,leave\n";
    const FailureModel model = FailureModel::parse("script:" + file, 1);
    ASSERT_EQ(model.script().size(), 2u);
    EXPECT_TRUE(model.script()[0].leaves);
    EXPECT_EQ(model.script()[0].at, std::chrono::milliseconds(1500));
    EXPECT_FALSE(model.script()[1].leaves);
    EXPECT_EQ(model.workers_min(), 2u);
}

TEST(FailureModel, RefusesWhatItIsNot) {
    for (const char* spec :
         {"", "mtbf:60s", "rejoin:10s", "mtbf:60,rejoin:10s", "mtbf:0s,rejoin:1s", "mtbf:-1s,rejoin:1s",
          "mtbf:60s,rejoin:10s,x:1s", "often", "script:", "script:/nowhere/at/all.csv"}) {
        EXPECT_THROW(FailureModel::parse(spec, 1), InputError) << spec;
    }
    const TempDir dir;
    const std::string file = dir.path() / "failures.csv";
    std::ofstream(file) << "worker,seconds,event\n1,2.5,sleep\n";
    EXPECT_THAT([&] { FailureModel::parse("script:" + file, 1); },
                ThrowsMessage<InputError>(HasSubstr("failures.csv:2: event 'sleep' is neither leave nor join")));
}

} // namespace
} // namespace lategrad
