/// An optimizer that was stored and read again steps as the one that went on.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

#include "lategrad/optim/optimizer.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/stored.h"

namespace lategrad {
namespace {

const std::vector<OptimizerOptions> kAll{
    {.kind = "sgd"},
    {.kind = "sgd", .weight_decay = 1e-2},
    {.kind = "sgd", .momentum = 0.9},
    {.kind = "sgd", .momentum = 0.9, .nesterov = true, .weight_decay = 1e-2},
    {.kind = "adam", .weight_decay = 1e-2},
    {.kind = "adamw", .weight_decay = 1e-2},
};

std::vector<float> draw(RandomStream& random, std::size_t size) {
    std::vector<float> values(size);
    for (float& value : values) value = static_cast<float>(random.uniform() - 0.5);
    return values;
}

void step(Optimizer& optimizer, std::vector<float>& params, const std::vector<float>& grad) {
    optimizer.apply(0, params, params, grad);
}

RC_GTEST_PROP(ResumedOptimizer, StepsAsIfItHadNeverStopped, (std::uint64_t seed)) {
    const OptimizerOptions options = *rc::gen::elementOf(kAll);
    const auto size = *rc::gen::inRange<std::size_t>(0, 50);
    const bool within_update = *rc::gen::arbitrary<bool>();
    RandomStream random(seed, Purpose::test);
    const auto optimizer = make_optimizer(options, size);
    std::vector<float> params = draw(random, size);
    for (std::uint64_t i = random.below(5); i > 0; --i) {
        optimizer->begin_update(random.uniform());
        step(*optimizer, params, draw(random, size));
    }
    if (within_update) optimizer->begin_update(0.3);
    const Stored stored = Stored::of(*optimizer);

    const auto resumed = make_optimizer(options, size);
    std::vector<float> other = draw(random, size);
    resumed->begin_update(0.1); // what it knew before does not matter
    step(*resumed, other, draw(random, size));
    BufferPool none(0);
    read_stored(stored, none, *resumed);
    RC_ASSERT(resumed->updates() == optimizer->updates());
    other = params;
    for (int i = 0; i < 4; ++i) {
        const double learning_rate = random.uniform();
        const std::vector<float> grad = draw(random, size);
        if (i > 0 || !within_update) {
            optimizer->begin_update(learning_rate);
            resumed->begin_update(learning_rate);
        }
        step(*optimizer, params, grad);
        step(*resumed, other, grad);
        RC_ASSERT(same_bits(params, other));
    }
    RC_ASSERT(Stored::of(*optimizer) == Stored::of(*resumed));
}

TEST(ResumedOptimizer, IsWhatItWas) {
    const auto read_into = [](const OptimizerOptions& from, std::size_t size, const OptimizerOptions& to) {
        const auto stored = Stored::of(*make_optimizer(from, size));
        BufferPool none(0);
        return refusal([&] { read_stored(stored, none, *make_optimizer(to, 10)); });
    };
    const OptimizerOptions sgd, heavy{.momentum = 0.9}, adam{.kind = "adam"}, adamw{.kind = "adamw"};
    EXPECT_EQ(read_into(heavy, 10, heavy), "");
    EXPECT_TRUE(read_into(heavy, 9, heavy).ends_with("parameters with momentum: 9, but 10 here"));
    EXPECT_TRUE(read_into(heavy, 10, sgd).ends_with("parameters with momentum: 10, but 0 here"));
    EXPECT_TRUE(read_into(adam, 10, adamw).ends_with("--optimizer: 'adam', but 'adamw' here"));
    EXPECT_TRUE(read_into(adam, 9, adam).ends_with("parameters: 9, but 10 here"));
}

TEST(ResumedOptimizer, IsReadOrRefusedWhereBytesAreDamaged) {
    RandomStream random(1, Purpose::test);
    for (const OptimizerOptions& options : kAll) {
        const Stored stored = Stored::of(*make_optimizer(options, 5));
        BufferPool none(0);
        for (int i = 0; i < 200; ++i) {
            refusal([&] { read_stored(damaged(stored, random), none, *make_optimizer(options, 5)); });
        }
    }
}

} // namespace
} // namespace lategrad
