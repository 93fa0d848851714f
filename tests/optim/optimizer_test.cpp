#include "lategrad/optim/optimizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <limits>

#include "lategrad/core/error.h"
#include "lategrad/core/random.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/simd_targets.h"

namespace lategrad {
namespace {

using Floats = std::vector<float>;

Floats random_floats(RandomStream& stream, std::size_t size) {
    Floats values(size);
    for (float& value : values) value = static_cast<float>(stream.exponential(1) - stream.exponential(1));
    return values;
}

/// The formulas as anyone can read them; the kernels must give the same bits.
struct SlowOptimizer {
    OptimizerOptions options;
    Floats params;
    Floats first = Floats(params.size());  ///< momentum; Adam's mean
    Floats second = Floats(params.size()); ///< Adam's mean square
    int updates = 0;

    void update(double learning_rate, const Floats& grad) {
        ++updates;
        for (std::size_t i = 0; i < params.size(); ++i) {
            if (options.kind == "sgd") sgd(static_cast<float>(learning_rate), i, grad[i]);
            else adam(learning_rate, i, grad[i]);
        }
    }

    void sgd(float learning_rate, std::size_t i, float g) {
        const auto momentum = static_cast<float>(options.momentum);
        if (options.weight_decay != 0) g = g + params[i] * static_cast<float>(options.weight_decay);
        if (momentum != 0) {
            first[i] = first[i] * momentum + g;
            g = options.nesterov ? g + first[i] * momentum : first[i];
        }
        params[i] = params[i] - g * learning_rate;
    }

    void adam(double learning_rate, std::size_t i, float g) {
        if (options.weight_decay != 0) {
            if (options.kind == "adam") g = g + params[i] * static_cast<float>(options.weight_decay);
            else params[i] = params[i] * static_cast<float>(1 - learning_rate * options.weight_decay);
        }
        first[i] = first[i] * static_cast<float>(options.beta1) + g * static_cast<float>(1 - options.beta1);
        second[i] = second[i] * static_cast<float>(options.beta2) + static_cast<float>(1 - options.beta2) * g * g;
        const double bias1 = 1 - std::pow(options.beta1, updates), bias2 = 1 - std::pow(options.beta2, updates);
        const float scale =
            std::sqrt(second[i]) / static_cast<float>(std::sqrt(bias2)) + static_cast<float>(options.epsilon);
        params[i] = params[i] - static_cast<float>(learning_rate / bias1) * first[i] / scale;
    }
};

const std::vector<OptimizerOptions> kAll{
    {.kind = "sgd"},
    {.kind = "sgd", .weight_decay = 1e-2},
    {.kind = "sgd", .momentum = 0.9},
    {.kind = "sgd", .momentum = 0.9, .weight_decay = 1e-2},
    {.kind = "sgd", .momentum = 0.9, .nesterov = true, .weight_decay = 1e-2},
    {.kind = "adam"},
    {.kind = "adam", .weight_decay = 1e-2, .beta1 = 0.8, .beta2 = 0.99, .epsilon = 1e-6},
    {.kind = "adamw", .weight_decay = 1e-2},
};

RC_GTEST_PROP(Optimizer, IsTheSlowLoopOnEveryTarget, ()) {
    const OptimizerOptions options = *rc::gen::elementOf(kAll);
    const auto size = *rc::gen::inRange<std::size_t>(0, 100);
    const auto split = *rc::gen::inRange<std::size_t>(0, size + 1);
    const auto seed = *rc::gen::arbitrary<std::uint64_t>();
    on_every_simd_target([&](const char* target) {
        RC_LOG() << options.kind << " on " << target << '\n';
        RandomStream stream(seed, Purpose::test);
        Floats params = random_floats(stream, size), other(size);
        SlowOptimizer slow{.options = options, .params = params};
        const auto optimizer = make_optimizer(options, size);
        for (int update = 1; update <= 4; ++update) {
            const Floats grad = random_floats(stream, size);
            const double learning_rate = 0.1 / update;
            slow.update(learning_rate, grad);
            optimizer->begin_update(learning_rate);
            // Two chunks, the second one first; every other update into another vector.
            const std::span<const float> in(params), gradient(grad);
            const std::span<float> out(update % 2 == 0 ? other : params);
            optimizer->apply(split, in.subspan(split), out.subspan(split), gradient.subspan(split));
            optimizer->apply(0, in.first(split), out.first(split), gradient.first(split));
            if (update % 2 == 0) std::swap(params, other);
            RC_ASSERT(same_bits(params, slow.params));
            RC_ASSERT(optimizer->updates() == static_cast<std::uint64_t>(update));
        }
        const auto state = optimizer->state();
        if (state.size() >= 1) RC_ASSERT(same_bits(state[0], slow.first));
        if (state.size() == 2) RC_ASSERT(same_bits(state[1], slow.second));
    });
}

// Worked out by hand in numbers that floats hold exactly.
TEST(Optimizer, SgdByHand) {
    const auto step_twice = [](const OptimizerOptions& options) {
        const auto optimizer = make_optimizer(options, 1);
        Floats p{4};
        const Floats g{2};
        for (int i = 0; i < 2; ++i) {
            optimizer->begin_update(0.5);
            optimizer->apply(0, p, p, g);
        }
        return p[0];
    };
    EXPECT_EQ(step_twice({.kind = "sgd"}), 2);                                        // g = 2, 2
    EXPECT_EQ(step_twice({.kind = "sgd", .momentum = 0.5}), 1.5f);                    // b = 2, 3
    EXPECT_EQ(step_twice({.kind = "sgd", .momentum = 0.5, .nesterov = true}), 0.75f); // g + b/2 = 3, 3.5
    EXPECT_EQ(step_twice({.kind = "sgd", .weight_decay = 0.5}), 0.5f);                // g + p/2 = 4, 3
}

TEST(Optimizer, AdamStepsByTheLearningRateFirst) {
    // m/(1−β₁) = g and √(v/(1−β₂)) = |g|: the first step is lr·sign(g), and AdamW shrinks the parameter before.
    for (const char* kind : {"adam", "adamw"}) {
        const auto optimizer = make_optimizer({.kind = kind, .weight_decay = kind[4] == 'w' ? 0.5 : 0}, 2);
        Floats p{1, 1};
        optimizer->begin_update(0.125);
        optimizer->apply(0, p, p, Floats{3, -0.01f});
        const float before = kind[4] == 'w' ? 1 - 0.125f * 0.5f : 1;
        EXPECT_NEAR(p[0], before - 0.125f, 1e-6) << kind;
        EXPECT_NEAR(p[1], before + 0.125f, 1e-6) << kind;
    }
}

TEST(Optimizer, OnlyAStepOfSgdGrowsWithTheGradient) {
    EXPECT_EQ(make_optimizer({.kind = "sgd", .momentum = 0.9}, 1)->step_scale(0.25), 0.25F);
    EXPECT_EQ(make_optimizer({}, 1)->step_scale(1e39),
              std::numeric_limits<float>::max()); // a message takes no infinity
    for (const char* kind : {"adam", "adamw"}) EXPECT_EQ(make_optimizer({.kind = kind}, 1)->step_scale(0.25), 1);
}

TEST(Optimizer, StateHasTheParametersLength) {
    const auto count = [](const OptimizerOptions& options) {
        const auto optimizer = make_optimizer(options, 10);
        for (const auto& state : optimizer->state()) {
            EXPECT_EQ(state.size(), 10u);
            for (const float value : state) EXPECT_EQ(value, 0);
        }
        EXPECT_EQ(optimizer->name(), options.kind);
        EXPECT_EQ(optimizer->updates(), 0u);
        return optimizer->state().size();
    };
    EXPECT_EQ(count({.kind = "sgd"}), 0u);
    EXPECT_EQ(count({.kind = "sgd", .momentum = 0.9}), 1u);
    EXPECT_EQ(count({.kind = "adam"}), 2u);
    EXPECT_EQ(count({.kind = "adamw"}), 2u);
}

TEST(MakeOptimizer, RefusesWhatIsWrongAndNamesTheOption) {
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    const std::pair<OptimizerOptions, const char*> wrong[] = {
        {{.kind = "rmsprop"}, "--optimizer rmsprop: expected sgd, adam or adamw"},
        {{.momentum = 1}, "--momentum 1: must be in [0, 1)"},
        {{.momentum = -0.5}, "--momentum -0.5: must be in [0, 1)"},
        {{.momentum = kNan}, "--momentum nan: must be in [0, 1)"},
        {{.nesterov = true}, "--nesterov: needs --momentum above 0"},
        {{.weight_decay = -1}, "--weight-decay -1: must be 0 or more"},
        {{.weight_decay = kInfinity}, "--weight-decay inf: must be 0 or more"},
        {{.kind = "adam", .momentum = 0.9},
         "--momentum 0.9: only for --optimizer sgd; with adam set it to 0 (--momentum 0)"},
        {{.kind = "adamw", .nesterov = true}, "--nesterov: only for --optimizer sgd, not adamw; leave it out"},
        {{.kind = "adam", .beta1 = 1}, "--beta1 1: must be in [0, 1)"},
        {{.kind = "adam", .beta2 = -1}, "--beta2 -1: must be in [0, 1)"},
        {{.kind = "adamw", .epsilon = 0}, "--epsilon 0: must be above 0"},
    };
    for (const auto& [options, message] : wrong) {
        try {
            make_optimizer(options, 1);
            ADD_FAILURE() << message;
        } catch (const InputError& error) {
            EXPECT_STREQ(error.what(), message);
        }
    }
}

} // namespace
} // namespace lategrad
