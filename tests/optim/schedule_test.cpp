#include "lategrad/optim/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

struct Row {
    const char* spec;
    double epochs;
    double done;
    double factor;
};

TEST(Schedule, Table) {
    constexpr std::uint64_t kEpoch = 1000;
    const Row rows[] = {
        {"constant", 0, 0, 1},
        {"constant", 7.5, 1, 1},
        {"constant+warmup:2", 0, 0, 0},
        {"constant+warmup:2", 0.5, 0, 0.25},
        {"constant+warmup:2", 2, 0, 1},
        {"constant+warmup:2", 9, 0, 1},
        {"step:3,0.1", 0, 0, 1},
        {"step:3,0.1", 2.999, 0, 1},
        {"step:3,0.1", 3, 0, 0.1},
        {"step:3,0.1", 9.5, 0, 0.001},
        {"step:0.5,0.5", 1, 0, 0.25},
        {"step:1e+0,0.5", 1, 0, 0.5},
        {"step:1,2", 3, 0, 8},
        {"step:1e-300,9", 1e6, 0, 1e30},
        {"step:1,0.5+warmup:4", 2, 0, 0.125},
        {"cosine", 0, 0, 1},
        {"cosine", 0, 0.25, 0.8535533905932737},
        {"cosine", 0, 0.5, 0.5},
        {"cosine", 0, 1, 0},
        {"cosine", 0, 1.5, 0},
        {"cosine:0.2", 0, 0.5, 0.6},
        {"cosine:0.2", 0, 1, 0.2},
        {"cosine+warmup:1", 0.5, 0.5, 0.25},
    };
    for (const Row& row : rows) {
        const TrainingProgress progress{.examples_applied = static_cast<std::uint64_t>(row.epochs * kEpoch),
                                        .epoch_examples = kEpoch,
                                        .done = row.done};
        EXPECT_NEAR(Schedule::parse(row.spec).factor(progress), row.factor, 1e-15)
            << row.spec << " after " << row.epochs << " epochs, " << row.done << " done";
    }
}

TEST(Schedule, OnlyCosineNeedsAnEnd) {
    EXPECT_TRUE(Schedule::parse("cosine").needs_end());
    EXPECT_TRUE(Schedule::parse("cosine:0.1+warmup:1").needs_end());
    EXPECT_FALSE(Schedule::parse("constant").needs_end());
    EXPECT_FALSE(Schedule::parse("step:1,0.5").needs_end());
}

TEST(Schedule, RefusesWhatIsWrongAndNamesTheOption) {
    const std::pair<const char*, const char*> wrong[] = {
        {"", "unknown schedule ''"},
        {"linear", "unknown schedule 'linear'"},
        {"constant:1", "unknown schedule 'constant:1'"},
        {"constant+warm:1", "unknown schedule 'constant+warm:1'"},
        {"step", "unknown schedule 'step'"},
        {"step:3", "step needs EPOCHS,FACTOR"},
        {"step:,0.1", "EPOCHS '' is not a number"},
        {"step:3,0.1x", "FACTOR '0.1x' is not a number"},
        {"step:3,nan", "FACTOR 'nan' is not a number"},
        {"step:inf,1", "EPOCHS 'inf' is not a number"},
        {"step:0,0.1", "EPOCHS must be above 0"},
        {"step:3,-1", "FACTOR must be above 0"},
        {"cosine:1.5", "FINAL must be in [0, 1]"},
        {"cosine:-0.1", "FINAL must be in [0, 1]"},
        {"cosine:", "FINAL '' is not a number"},
        {"constant+warmup:", "the warm-up's EPOCHS '' is not a number"},
        {"constant+warmup:0", "the warm-up's EPOCHS must be above 0"},
    };
    for (const auto& [spec, message] : wrong) {
        try {
            Schedule::parse(spec);
            ADD_FAILURE() << spec;
        } catch (const InputError& error) {
            EXPECT_THAT(error.what(), testing::StartsWith("--lr-schedule '" + std::string(spec) + "': " + message));
        }
    }
}

} // namespace
} // namespace lategrad
