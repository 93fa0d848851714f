#include <thread>

#include <dlfcn.h>
#include <gmock/gmock.h>

#include "lategrad/torch/libtorch.h"
#include "lategrad/torch/torch_gradient_source.h"
#include "lategrad/torch/torch_headers.h"
#include "tests/torch/array_data.h"

namespace lategrad {
namespace {

namespace F = torch::nn::functional;

/// LeNet as anyone would write it with libtorch alone.
struct PlainLenet : torch::nn::Module {
    torch::nn::Conv2d conv1{nullptr}, conv2{nullptr};
    torch::nn::Linear fc1{nullptr}, fc2{nullptr};

    PlainLenet() {
        conv1 = register_module("conv1", torch::nn::Conv2d(1, 20, 5));
        conv2 = register_module("conv2", torch::nn::Conv2d(20, 50, 5));
        fc1 = register_module("fc1", torch::nn::Linear(50 * 4 * 4, 500));
        fc2 = register_module("fc2", torch::nn::Linear(500, 10));
    }
    torch::Tensor forward(torch::Tensor x) {
        x = torch::relu(torch::max_pool2d(conv1(x), 2));
        x = torch::relu(torch::max_pool2d(conv2(x), 2));
        return fc2(torch::relu(fc1(x.flatten(1))));
    }
};

std::vector<float> flattened(const std::vector<torch::Tensor>& tensors) {
    std::vector<float> all;
    for (const torch::Tensor& tensor : tensors) {
        const torch::Tensor dense = tensor.detach().contiguous();
        all.insert(all.end(), dense.data_ptr<float>(), dense.data_ptr<float>() + dense.numel());
    }
    return all;
}

std::vector<float> gradients(torch::nn::Module& module) {
    std::vector<torch::Tensor> all;
    for (const torch::Tensor& parameter : module.parameters()) all.push_back(parameter.grad());
    return flattened(all);
}

class GradientTest : public testing::Test {
  protected:
    GradientTest() : data_(64, {1, 28, 28}, 10), batch_(data_.batch(0, 16)) {}

    std::unique_ptr<GradientSource> lenet() { return make_gradient_source(ModelSpec::parse("lenet"), data_, 1); }
    Buffer initial(const char* spec, const Dataset& data) {
        const auto model = make_model(ModelSpec::parse(spec), data, 1);
        Buffer params = flat(model->size());
        model->initial_parameters(params.floats());
        return params;
    }

    ArrayData data_;
    Batch batch_;
};

TEST_F(GradientTest, IsThatOfAPlainLoopBitForBit) {
    use_threads(1);
    torch::manual_seed(1);
    PlainLenet plain;
    torch::optim::SGD optimizer(plain.parameters(), torch::optim::SGDOptions(0.1));

    const auto source = lenet();
    Buffer params = initial("lenet", data_);
    Buffer grad = flat(source->size(), 7.0f);
    EXPECT_EQ(values(params), flattened(plain.parameters()));
    for (std::uint32_t step = 0; step < 4; ++step) {
        const Batch batch = data_.batch(16 * step, 16);
        optimizer.zero_grad();
        const torch::Tensor x = torch::tensor(batch.features).reshape({16, 1, 28, 28});
        const torch::Tensor loss = F::cross_entropy(plain.forward(x), torch::tensor(batch.labels));
        loss.backward();

        EXPECT_EQ(source->compute(params.floats(), grad.floats(), batch).mean, loss.item<double>());
        ASSERT_EQ(values(grad), gradients(plain)) << "step " << step;

        optimizer.step();
        const auto next = flattened(plain.parameters());
        std::ranges::copy(next, params.floats().begin());
    }
}

TEST_F(GradientTest, DoesNotDependOnThreadAddressOrWhatCameBefore) {
    const auto source = lenet();
    const Buffer params = initial("lenet", data_);
    Buffer grad = flat(source->size());
    source->compute(params.floats(), grad.floats(), batch_);
    const auto expected = values(grad);

    source->compute(params.floats(), grad.floats(), data_.batch(40, 16));
    EXPECT_NE(values(grad), expected);
    source->compute(params.floats(), grad.floats(), batch_);
    EXPECT_EQ(values(grad), expected) << "in the same memory";

    const Buffer params_elsewhere = initial("lenet", data_);
    Buffer grad_elsewhere = flat(source->size(), 3.0f);
    source->compute(params_elsewhere.floats(), grad_elsewhere.floats(), batch_);
    EXPECT_EQ(values(grad_elsewhere), expected) << "in other memory";

    std::ranges::fill(grad.floats(), 5.0f);
    std::thread([&] { source->compute(params.floats(), grad.floats(), batch_); }).join();
    EXPECT_EQ(values(grad), expected) << "on another thread";

    lenet()->compute(params.floats(), grad.floats(), batch_);
    EXPECT_EQ(values(grad), expected) << "by another copy of the model";
}

TEST_F(GradientTest, LeavesTheParametersAlone) {
    const auto source = lenet();
    const Buffer params = initial("lenet", data_);
    const auto before = values(params);
    Buffer grad = flat(source->size());
    source->compute(params.floats(), grad.floats(), batch_);
    EXPECT_EQ(values(params), before);
}

TEST_F(GradientTest, WorkersInThreadsDoNotDisturbEachOther) {
    const Buffer params = initial("lenet", data_);
    Buffer alone = flat(params.floats().size());
    lenet()->compute(params.floats(), alone.floats(), batch_);

    std::vector<std::vector<float>> together(3);
    std::vector<std::jthread> workers;
    for (auto& result : together)
        workers.emplace_back([&] {
            const auto source = lenet();
            Buffer grad = flat(source->size());
            for (std::uint32_t step = 0; step < 3; ++step)
                source->compute(params.floats(), grad.floats(), data_.batch(8 * step, 16));
            source->compute(params.floats(), grad.floats(), batch_);
            result = values(grad);
        });
    workers.clear();
    for (const auto& result : together) EXPECT_EQ(result, values(alone));
}

TEST_F(GradientTest, SetsTheThreadsOfTheThreadThatComputes) {
    auto* omp_max = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_get_max_threads"));
    ASSERT_NE(omp_max, nullptr);
    const ArrayData rows(8, {3}, 2);
    const Buffer params = initial("logistic", rows);
    for (const int threads : {1, 2, 3}) {
        int seen = 0;
        std::thread([&] {
            const auto source = make_gradient_source(ModelSpec::parse("logistic"), rows, threads);
            Buffer grad = flat(source->size());
            use_threads(threads + 1); // another source was here
            source->compute(params.floats(), grad.floats(), rows.batch(0, 8));
            seen = omp_max();
        }).join();
        EXPECT_EQ(seen, threads);
    }
}

TEST_F(GradientTest, RidgeIsTheClosedFormOverTheRows) {
    constexpr std::size_t kRows = 12;
    constexpr std::size_t kWidth = 5;
    constexpr double kEta = 0.5;
    const ArrayData rows(kRows, {kWidth}, 0);
    const auto source = make_gradient_source(ModelSpec::parse("ridge:0.5"), rows, 1);
    Buffer w = flat(kWidth);
    for (std::size_t j = 0; j < kWidth; ++j) w.floats()[j] = 0.25f * static_cast<float>(j) - 0.5f;

    // ∇f/m = (2/m)·(Xᵀ(Xw − y) + ηw), f(w) = ‖Xw − y‖² + η‖w‖²
    std::vector<double> expected(kWidth);
    double loss = 0;
    for (std::size_t i = 0; i < kRows; ++i) {
        const auto row = rows.values().subspan(i * kWidth, kWidth);
        double residual = -rows.targets()[i];
        for (std::size_t j = 0; j < kWidth; ++j) residual += double{row[j]} * w.floats()[j];
        for (std::size_t j = 0; j < kWidth; ++j) expected[j] += 2 * residual * row[j] / kRows;
        loss += residual * residual / kRows;
    }
    for (std::size_t j = 0; j < kWidth; ++j) {
        expected[j] += 2 * kEta * w.floats()[j] / kRows;
        loss += kEta * w.floats()[j] * w.floats()[j] / kRows;
    }

    Buffer grad = flat(kWidth);
    EXPECT_NEAR(source->compute(w.floats(), grad.floats(), rows.batch(0, kRows)).mean, loss, 1e-6);
    EXPECT_THAT(values(grad), testing::Pointwise(testing::FloatNear(1e-6f), expected));
}

TEST_F(GradientTest, RegressionIsTheMeanSquaredError) {
    const ArrayData rows(6, {4}, 0);
    const auto source = make_gradient_source(ModelSpec::parse("mlp:3"), rows, 1);
    const Buffer zero = flat(source->size());
    Buffer grad = flat(source->size());
    double mean_square = 0;
    double mean = 0;
    for (const float y : rows.targets()) {
        mean_square += double{y} * y / 6;
        mean += y / 6.0;
    }
    EXPECT_NEAR(source->compute(zero.floats(), grad.floats(), rows.batch(0, 6)).mean, mean_square, 1e-6);
    EXPECT_NEAR(grad.floats().back(), -2 * mean, 1e-6); // that of the last bias
}

} // namespace
} // namespace lategrad
