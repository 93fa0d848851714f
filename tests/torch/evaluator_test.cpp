#include "lategrad/torch/evaluator.h"

#include <cmath>

#include <gtest/gtest.h>

#include "lategrad/core/random.h"
#include "tests/torch/array_data.h"

namespace lategrad {
namespace {

constexpr std::size_t kExamples = 1234; // neither one chunk nor a whole number of them

TEST(EvaluatorTest, LossAndAccuracyAreThoseOfASlowLoop) {
    constexpr std::size_t kWidth = 6;
    constexpr std::size_t kClasses = 3;
    const ArrayData data(kExamples, {kWidth}, kClasses);
    TorchEvaluator evaluator(ModelSpec::parse("logistic"), data, 1);
    Buffer params = flat(kClasses * kWidth + kClasses);
    RandomStream random(3, Purpose::test);
    for (float& value : params.floats()) value = static_cast<float>(random.uniform());

    double loss = 0;
    double right = 0;
    for (std::size_t i = 0; i < kExamples; ++i) {
        double logits[kClasses];
        double total = 0;
        for (std::size_t c = 0; c < kClasses; ++c) {
            logits[c] = params.floats()[kClasses * kWidth + c];
            for (std::size_t j = 0; j < kWidth; ++j)
                logits[c] += double{params.floats()[c * kWidth + j]} * data.values()[i * kWidth + j];
            total += std::exp(logits[c]);
        }
        const auto label = static_cast<std::size_t>(data.labels()[i]);
        loss += (std::log(total) - logits[label]) / kExamples;
        right += std::max_element(logits, logits + kClasses) - logits == data.labels()[i];
    }

    const auto score = evaluator.evaluate(params.floats(), data);
    ASSERT_TRUE(score.accuracy);
    EXPECT_NEAR(score.loss, loss, 1e-6);
    EXPECT_DOUBLE_EQ(*score.accuracy, right / kExamples);
    EXPECT_GT(*score.accuracy, 0.2);

    const auto again = evaluator.evaluate(params.floats(), data);
    EXPECT_EQ(again.loss, score.loss);
}

TEST(EvaluatorTest, RidgeHasALossWithItsPenaltyAndNoAccuracy) {
    const ArrayData train(10, {2}, 0);
    const ArrayData test(kExamples, {2}, 0, 2);
    TorchEvaluator evaluator(ModelSpec::parse("ridge:3"), train, 1);
    Buffer w = flat(2);
    w.floats()[0] = 1;
    w.floats()[1] = -2;
    double loss = 3 * (1 + 4) / 10.0;
    for (std::size_t i = 0; i < kExamples; ++i) {
        const double residual = test.values()[2 * i] - 2 * test.values()[2 * i + 1] - test.targets()[i];
        loss += residual * residual / kExamples;
    }
    const auto score = evaluator.evaluate(w.floats(), test);
    EXPECT_NEAR(score.loss, loss, 1e-5);
    EXPECT_FALSE(score.accuracy);
}

} // namespace
} // namespace lategrad
