#include "lategrad/worker/straggle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lategrad/core/error.h"
#include "tests/files/temp_dir.h"

namespace lategrad {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

constexpr Duration kCompute = 10ms;

Duration delay(const StraggleModel& model, std::uint32_t worker, std::uint64_t step, std::size_t workers = 8) {
    return model.delay(WorkerId(worker), Step(step), workers, kCompute);
}

/// Over workers and steps, in seconds.
double mean_of(std::string_view spec) {
    const auto model = StraggleModel::parse(spec, 1);
    double sum = 0;
    for (std::uint32_t worker = 0; worker < 100; ++worker)
        for (std::uint64_t step = 0; step < 1000; ++step) sum += seconds(delay(model, worker, step));
    return sum / 100'000;
}

TEST(Straggle, NoneAddsNothing) {
    const auto model = StraggleModel::parse("none", 1);
    EXPECT_FALSE(model.adds_time(kCompute));
    EXPECT_EQ(delay(model, 7, 3), 0ns);
    EXPECT_FALSE(StraggleModel().adds_time(kCompute));
}

TEST(Straggle, MeansAreThoseOfTheDistributions) {
    EXPECT_NEAR(mean_of("exp:20ms"), 0.020, 0.0004);
    EXPECT_NEAR(mean_of("shifted-exp:5ms,20ms"), 0.025, 0.0004);
    EXPECT_NEAR(mean_of("pareto:3,10ms"), 0.015, 0.0002); // scale · shape / (shape − 1)
    EXPECT_NEAR(mean_of("bimodal:0.1,5"), 0.1 * 4 * 0.010, 0.0001);
}

TEST(Straggle, ShiftAndScaleAreLowerBounds) {
    const auto shifted = StraggleModel::parse("shifted-exp:5ms,20ms", 1),
               pareto = StraggleModel::parse("pareto:3,10ms", 1);
    for (std::uint64_t step = 0; step < 1000; ++step) {
        EXPECT_GE(delay(shifted, 0, step), 5ms);
        EXPECT_GE(delay(pareto, 0, step), 10ms);
    }
}

TEST(Straggle, SlowSlowsTheLastWorkersAlways) {
    const auto model = StraggleModel::parse("slow:2,4", 1);
    EXPECT_EQ(model.workers_min(), 2u);
    EXPECT_TRUE(model.adds_time(kCompute));
    for (std::uint64_t step = 0; step < 5; ++step) {
        EXPECT_EQ(delay(model, 5, step), 0ns);
        EXPECT_EQ(delay(model, 6, step), 30ms); // 4 × 10 ms in all
        EXPECT_EQ(delay(model, 7, step), 30ms);
    }
    EXPECT_EQ(delay(StraggleModel::parse("slow:0,4", 1), 7, 0), 0ns);
    EXPECT_EQ(delay(StraggleModel::parse("slow:8,1", 1), 0, 0), 0ns);
}

TEST(Straggle, BimodalMultipliesOrLeaves) {
    const auto model = StraggleModel::parse("bimodal:0.5,3", 1);
    for (std::uint64_t step = 0; step < 100; ++step)
        EXPECT_THAT(delay(model, 0, step), testing::AnyOf(Duration(0ns), Duration(20ms)));
    EXPECT_EQ(mean_of("bimodal:0,3"), 0);
    EXPECT_NEAR(mean_of("bimodal:1,3"), 0.020, 1e-9);
}

TEST(Straggle, DependsOnSeedWorkerAndStepAlone) {
    const auto model = StraggleModel::parse("exp:20ms", 1), again = StraggleModel::parse("exp:20ms", 1);
    const Duration first = delay(model, 3, 9);
    EXPECT_NE(delay(model, 3, 10), first);
    EXPECT_NE(delay(model, 4, 9), first);
    EXPECT_NE(delay(StraggleModel::parse("exp:20ms", 2), 3, 9), first);
    EXPECT_EQ(delay(again, 3, 9), first);
    EXPECT_EQ(delay(model, 3, 9), first); // whatever was asked before
}

TEST(Straggle, OfNoScaleIsNoneHoweverHeavyItsTail) {
    const auto model = StraggleModel::parse("pareto:1e-11,0ms", 1);
    for (std::uint32_t step = 0; step < 10; ++step) EXPECT_EQ(delay(model, 0, step), Duration::zero());
}

TEST(Straggle, HeavyTailsStayWithinTheClock) {
    const auto model = StraggleModel::parse("pareto:0.01,1h", 1);
    for (std::uint64_t step = 0; step < 1000; ++step) {
        EXPECT_GT(delay(model, 0, step), 0ns);
        EXPECT_LE(seconds(delay(model, 0, step)), 1e9);
    }
}

TEST(Straggle, TraceInAnyOrderOfColumns) {
    const TempDir folder;
    const auto file = folder.write("t.csv", "seconds, worker, host, step\r\n0.5,0,a,0\r\n\r\n1e-3,3,b,12");
    const auto model = StraggleModel::parse("trace:" + file.string(), 1);
    EXPECT_EQ(delay(model, 0, 0), 500ms);
    EXPECT_EQ(delay(model, 3, 12), 1ms);
    EXPECT_EQ(delay(model, 3, 11), 0ns); // not in the file
}

TEST(Straggle, TraceErrorsNameFileAndLine) {
    const struct {
        std::string text;
        std::string trouble;
    } cases[] = {
        {"", ":1: no column worker"},
        {"0,0,0.5\n", ":1: no column worker"},
        {"worker,step\n0,0\n", ":1: no column seconds"},
        {"worker,step,seconds\n0,0\n", ":2: 2 fields where the first line has 3"},
        {"worker,step,seconds\n0,0,1\n-1,0,1\n", ":3: worker '-1'"},
        {"worker,step,seconds\n0,1.5,1\n", ":2: step '1.5'"},
        {"worker,step,seconds\n0,1,-1\n", ":2: seconds '-1'"},
        {"worker,step,seconds\n0,1,nan\n", ":2: seconds 'nan'"},
        {"worker,step,seconds\n0,1,20ms\n", ":2: seconds '20ms'"},
        {"worker,step,seconds\n0,1,1\n0,1,2\n", ":3: a second line for worker 0, step 1"},
    };
    const TempDir folder;
    for (const auto& c : cases) {
        const auto file = folder.write("t.csv", c.text).string();
        EXPECT_THAT(message_of([&] { StraggleModel::parse("trace:" + file, 1); }), StartsWith(file + c.trouble))
            << c.text;
    }
    EXPECT_THAT(message_of([] { StraggleModel::parse("trace:/no/such.csv", 1); }),
                HasSubstr("/no/such.csv: cannot open"));
}

TEST(Straggle, ErrorsShowTheValidForm) {
    const struct {
        const char* spec;
        const char* form;
    } cases[] = {
        {"", "expected none, exp:MEAN, shifted-exp:SHIFT,MEAN"},
        {"sometimes", "expected none, exp:MEAN"},
        {"none:1", "expected none, exp:MEAN"},
        {"exp", "expected exp:MEAN, as in exp:20ms"},
        {"exp:20", "expected exp:MEAN, as in exp:20ms"},
        {"exp:-20ms", "expected exp:MEAN, as in exp:20ms"},
        {"exp:1ms,2ms", "expected exp:MEAN, as in exp:20ms"},
        {"shifted-exp:5ms", "as in shifted-exp:5ms,20ms"},
        {"shifted-exp:5ms,20", "as in shifted-exp:5ms,20ms"},
        {"pareto:1.5", "as in pareto:1.5,10ms"},
        {"pareto:0,10ms", "with SHAPE > 0, as in pareto:1.5,10ms"},
        {"pareto:nan,10ms", "as in pareto:1.5,10ms"},
        {"slow:9", "expected slow:COUNT,FACTOR, as in slow:2,4"},
        {"slow:-1,4", "expected slow:COUNT,FACTOR, as in slow:2,4"},
        {"slow:1.5,4", "expected slow:COUNT,FACTOR, as in slow:2,4"},
        {"slow:2,0.5", "expected slow:COUNT,FACTOR with FACTOR ≥ 1, as in slow:2,4"},
        {"slow:2,4,6", "expected slow:COUNT,FACTOR, as in slow:2,4"},
        {"bimodal:1.5,2", "as in bimodal:0.1,5"},
        {"bimodal:0.5,0.5", "as in bimodal:0.1,5"},
        {"bimodal:0.5", "as in bimodal:0.1,5"},
        {"trace:", "expected trace:FILE.csv with columns worker, step, seconds"},
    };
    for (const auto& c : cases)
        EXPECT_THAT(message_of([&] { StraggleModel::parse(c.spec, 1); }),
                    AllOf(StartsWith("--straggle " + std::string(c.spec) + ": expected"), HasSubstr(c.form)));
}

} // namespace
} // namespace lategrad
