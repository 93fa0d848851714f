/// The user's own networks, as TorchScript files.
#include <cstdlib>
#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "lategrad/torch/evaluator.h"
#include "lategrad/torch/torch_gradient_source.h"
#include "lategrad/torch/torch_headers.h"
#include "lategrad/torch/weights.h"
#include "tests/files/temp_dir.h"
#include "tests/torch/array_data.h"

namespace lategrad {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr std::int64_t kWidth = 4;
constexpr std::int64_t kClasses = 3;

/// A module with a weight (kWidth × kClasses) and this body of forward(self, x).
torch::jit::Module module_with(const std::string& body) {
    torch::jit::Module net("Net");
    net.register_attribute("training", c10::BoolType::get(), true);
    torch::manual_seed(3);
    net.register_parameter("weight", torch::randn({kWidth, kClasses}).requires_grad_(), false);
    net.register_buffer("mean", torch::zeros({kWidth}));
    net.register_buffer("var", torch::ones({kWidth}));
    net.register_buffer("count", torch::zeros({1}, torch::kInt64));
    net.define(fmt::format("def forward(self, x):\n    {}\n", body));
    return net;
}

constexpr const char* kLinear = "return torch.matmul(x, self.weight)";
constexpr const char* kBatchNorm = "self.count += 1\n"
                                   "    y = torch.batch_norm(x, None, None, self.mean, self.var, self.training, 0.1, "
                                   "1e-5, False)\n"
                                   "    return torch.matmul(y, self.weight)";

class ScriptTest : public testing::Test {
  protected:
    ModelSpec save(const torch::jit::Module& net) {
        const auto file = (dir_ / "net.pt").string();
        net.save(file);
        return ModelSpec::parse(file);
    }
    static Buffer initial(const Model& model) {
        Buffer params = flat(model.size());
        model.initial_parameters(params.floats());
        return params;
    }
    std::string refusal(const ModelSpec& spec, const Dataset& data) {
        return message_of([&] { make_model(spec, data, 1); });
    }

    TempDir dir_;
    ArrayData data_{32, {kWidth}, kClasses};
};

TEST_F(ScriptTest, ParametersComeFirstThenFloatBuffers) {
    const auto model = make_model(save(module_with(kBatchNorm)), data_, 1);
    EXPECT_EQ(model->trainable(), 12u);
    EXPECT_EQ(model->size(), 20u);
    ASSERT_EQ(model->tensors().size(), 3u);
    EXPECT_EQ(model->tensors()[0].name, "weight");
    EXPECT_EQ(model->tensors()[1].name, "mean");
    EXPECT_FALSE(model->tensors()[2].trainable);
    const auto start = values(initial(*model));
    EXPECT_THAT(std::vector(start.begin() + 12, start.end()), ElementsAre(0, 0, 0, 0, 1, 1, 1, 1))
        << "the trial on data must leave no trace";
}

TEST_F(ScriptTest, BuffersTravelFromParametersToGradient) {
    const auto spec = save(module_with(kBatchNorm));
    const auto model = make_model(spec, data_, 1);
    const auto source = make_gradient_source(spec, data_, 1);
    Buffer params = initial(*model);
    const auto buffers = params.floats().subspan(model->trainable());
    std::ranges::fill(buffers.first(kWidth), 10.0f); // running mean
    const auto before = values(params);
    Buffer grad = flat(model->size());

    const Batch batch = data_.batch(0, 8);
    for (int repeat = 0; repeat < 3; ++repeat) {
        source->compute(params.floats(), grad.floats(), batch);
        for (std::size_t j = 0; j < kWidth; ++j) {
            double mean = 0;
            for (std::size_t i = 0; i < 8; ++i) mean += batch.features[i * kWidth + j] / 8.0;
            EXPECT_NEAR(grad.floats()[model->trainable() + j], 0.9 * 10 + 0.1 * mean, 1e-5);
        }
        EXPECT_EQ(values(params), before);
    }
}

TEST_F(ScriptTest, BuffersThatForwardReplacesTravelToo) {
    const auto spec = save(module_with("self.mean = 0.5 * self.mean + torch.mean(x, [0])\n"
                                       "    return torch.matmul(x, self.weight)"));
    const auto source = make_gradient_source(spec, data_, 1);
    Buffer params = initial(*make_model(spec, data_, 1));
    Buffer grad = flat(source->size());
    const Batch batch = data_.batch(0, 1);
    for (const float start : {2.0f, 4.0f}) {
        params.floats()[source->trainable()] = start;
        source->compute(params.floats(), grad.floats(), batch);
        EXPECT_FLOAT_EQ(grad.floats()[source->trainable()], 0.5f * start + batch.features[0]);
    }
}

TEST_F(ScriptTest, EvaluationReadsTheRunningStatistics) {
    const auto spec = save(module_with(kBatchNorm));
    TorchEvaluator evaluator(spec, data_, 1);
    Buffer params = initial(*make_model(spec, data_, 1));
    const auto score = evaluator.evaluate(params.floats(), data_);
    EXPECT_EQ(evaluator.evaluate(params.floats(), data_).loss, score.loss);
    params.floats()[12] = 5;
    EXPECT_NE(evaluator.evaluate(params.floats(), data_).loss, score.loss);
}

TEST_F(ScriptTest, IsTrainedInPlaceBitForBitLikeAPlainLoop) {
    auto plain = module_with(kLinear);
    const auto spec = save(plain);
    const auto source = make_gradient_source(spec, data_, 1);
    Buffer params = initial(*make_model(spec, data_, 1));
    Buffer grad = flat(source->size());
    torch::Tensor weight = plain.attr("weight").toTensor();
    double loss_before = 0;
    double loss_after = 0;
    // More steps than TorchScript's executor needs to profile and rewrite a graph.
    for (int step = 0; step < 8; ++step) {
        const Batch batch = data_.batch(0, 32);
        loss_after = source->compute(params.floats(), grad.floats(), batch).mean;
        if (step == 0) loss_before = loss_after;

        weight.mutable_grad() = torch::Tensor();
        const torch::Tensor x = torch::tensor(batch.features).reshape({32, kWidth});
        torch::cross_entropy_loss(torch::matmul(x, weight), torch::tensor(batch.labels)).backward();
        const torch::Tensor expected = weight.grad();
        for (std::size_t i = 0; i < 12; ++i) ASSERT_EQ(grad.floats()[i], expected.data_ptr<float>()[i]) << step;

        for (std::size_t i = 0; i < 12; ++i) {
            params.floats()[i] -= 0.5f * grad.floats()[i];
            weight.data_ptr<float>()[i] = params.floats()[i];
        }
    }
    EXPECT_LT(loss_after, loss_before);
}

TEST_F(ScriptTest, ParametersWithoutGradientStayLocal) {
    torch::jit::Module net("Net");
    net.register_attribute("training", c10::BoolType::get(), true);
    net.register_parameter("scale", torch::full({kWidth}, 2.0), false);
    net.register_parameter("weight", torch::ones({kWidth, kClasses}).requires_grad_(), false);
    net.define("def forward(self, x):\n    return torch.matmul(x * self.scale, self.weight)\n");
    const auto model = make_model(save(net), data_, 1);
    EXPECT_EQ(model->size(), 12u);
    EXPECT_EQ(model->tensors()[0].name, "weight");
}

TEST_F(ScriptTest, KnowsWhatAGradientDependsOnBesides) {
    EXPECT_EQ(make_model(save(module_with(kLinear)), data_, 1)->hidden_state(), "");
    EXPECT_EQ(make_model(save(module_with(kBatchNorm)), data_, 1)->hidden_state(), "") << "a count that nothing reads";
    const auto averaging = save(module_with("self.count += 1\n    return torch.matmul(x, self.weight) / self.count"));
    EXPECT_THAT(make_model(averaging, data_, 1)->hidden_state(), HasSubstr("integer buffer"));
    const auto dropout = save(module_with("return torch.matmul(torch.dropout(x, 0.5, self.training), self.weight)"));
    EXPECT_THAT(make_model(dropout, data_, 1)->hidden_state(), HasSubstr("random"));
    EXPECT_EQ(make_model(ModelSpec::parse("logistic"), data_, 1)->hidden_state(), "");
}

TEST_F(ScriptTest, RegressionTakesOneNumberPerExample) {
    const ArrayData rows(8, {kWidth}, 0);
    const auto spec = save(module_with("return torch.sum(torch.matmul(x, self.weight), 1)"));
    EXPECT_EQ(refusal(spec, rows), "");
    EXPECT_THAT(refusal(save(module_with(kLinear)), rows), HasSubstr("returns the shape (2, 3), needed is one number"));
}

TEST_F(ScriptTest, RefusesModulesThatCannotBeTrained) {
    const struct {
        const char* body;
        const char* reason;
    } bodies[] = {
        {"return torch.matmul(x, self.weight[:, 0:2])", "returns the shape (2, 2), needed is (2, 3)"},
        {"return torch.matmul(x, self.weight)[0]", "returns the shape (3)"},
        {"return (x, self.weight)", "forward returns Tuple and not a tensor"},
        {"return torch.matmul(x[:, 1:], self.weight)", "shapes cannot be multiplied"},
        {"return torch.matmul(x, self.weight.detach())", "does not require grad"},
        {"self.weight.detach().mul_(0.5)\n    return torch.matmul(x, self.weight)",
         "forward changes the parameter weight"},
        {"assert x.dim() == 4\n    return torch.matmul(x, self.weight)", "AssertionError"},
    };
    for (const auto& c : bodies)
        EXPECT_THAT(refusal(save(module_with(c.body)), data_),
                    AllOf(HasSubstr("--model "), HasSubstr("--data"), HasSubstr("(4) with 3 classes"),
                          HasSubstr(c.reason), Not(HasSubstr("\n"))));
}

TEST_F(ScriptTest, RefusesParametersItCannotTrain) {
    auto tied = module_with(kLinear);
    tied.register_parameter("again", tied.attr("weight").toTensor(), false);
    EXPECT_THAT(refusal(save(tied), data_), HasSubstr("weight and again share their memory"));

    auto twice = module_with(kLinear);
    twice.register_parameter("bias", torch::zeros({3}, torch::kFloat64), false);
    EXPECT_THAT(refusal(save(twice), data_), HasSubstr("the parameter bias is CPUDoubleType and not float32"));

    torch::jit::Module empty("Net");
    empty.register_attribute("training", c10::BoolType::get(), true);
    empty.define("def forward(self, x):\n    return x\n");
    EXPECT_THAT(refusal(save(empty), data_), HasSubstr("has no parameters to train"));

    auto silent = torch::jit::Module("Net");
    silent.register_parameter("weight", torch::zeros({3}).requires_grad_(), false);
    silent.define("def other(self, x):\n    return x\n");
    EXPECT_THAT(refusal(save(silent), data_), HasSubstr("has no method forward"));
}

TEST_F(ScriptTest, RefusesFilesThatHoldNoModule) {
    const auto text = ModelSpec::parse(dir_.write("text.pt", "not a module").string());
    EXPECT_THAT(refusal(text, data_), AllOf(HasSubstr("text.pt: not a TorchScript module"), Not(HasSubstr("\n"))));

    const auto tensors = (dir_ / "tensors.pt").string();
    torch::save(torch::ones({3}), tensors);
    EXPECT_THAT(refusal(ModelSpec::parse(tensors), data_), AllOf(HasSubstr("tensors.pt: "), Not(HasSubstr("\n"))));

    std::filesystem::create_directory(dir_ / "folder.pt");
    EXPECT_THAT(refusal(ModelSpec::parse((dir_ / "folder.pt").string()), data_), HasSubstr("no such file"));
}

TEST_F(ScriptTest, TheExampleInPythonTrains) {
    const char* has_torch = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)";
    if (std::system(fmt::format("/usr/bin/python3 -c \"{}\" >/dev/null 2>&1", has_torch).c_str()) != 0)
        GTEST_SKIP() << "/usr/bin/python3 has no torch";
    const auto file = (dir_ / "net.pt").string();
    ASSERT_EQ(std::system(fmt::format("/usr/bin/python3 {}/examples/net.py {}", LATEGRAD_SOURCE_DIR, file).c_str()), 0);

    const ArrayData images(40, {1, 28, 28}, 10);
    const auto spec = ModelSpec::parse(file);
    const auto model = make_model(spec, images, 1);
    EXPECT_GT(model->size(), model->trainable()) << "it has BatchNorm";
    const auto source = make_gradient_source(spec, images, 1);
    Buffer params = initial(*model);
    Buffer grad = flat(model->size());
    const Batch batch = images.batch(0, 40);
    const double before = source->compute(params.floats(), grad.floats(), batch).mean;
    for (int step = 0; step < 10; ++step) {
        for (std::size_t i = 0; i < model->trainable(); ++i) params.floats()[i] -= 0.05f * grad.floats()[i];
        std::ranges::copy(grad.floats().subspan(model->trainable()),
                          params.floats().subspan(model->trainable()).begin());
        source->compute(params.floats(), grad.floats(), batch);
    }
    EXPECT_LT(source->compute(params.floats(), grad.floats(), batch).mean, 0.8 * before);

    save_weights(dir_ / "w.safetensors", *model, params.floats(), Version{10});
    EXPECT_EQ(load_weights(dir_ / "w.safetensors", *model), values(params));
}

} // namespace
} // namespace lategrad
