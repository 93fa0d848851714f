#include "lategrad/torch/curvature.h"

#include <gmock/gmock.h>

#include "lategrad/core/error.h"
#include "lategrad/torch/torch_headers.h"
#include "tests/files/temp_dir.h"
#include "tests/torch/array_data.h"

namespace lategrad {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr double kTolerance = 1e-3; ///< as a share

HessianBounds estimate(const std::string& model, const Dataset& data, double weight_decay = 0) {
    return estimate_curvature(ModelSpec::parse(model), data, weight_decay, 1, 1);
}

std::string refused(const std::string& model, const Dataset& data) {
    try {
        estimate(model, data);
        return "not refused";
    } catch (const InputError& error) {
        return error.what();
    }
}

std::string saved(const TempDir& dir, const std::string& forward, torch::Tensor weight) {
    torch::jit::Module net("Net");
    net.register_parameter("weight", std::move(weight).requires_grad_(), false);
    net.define("def forward(self, x):\n    " + forward + "\n");
    const std::string file = (dir / "net.pt").string();
    net.save(file);
    return file;
}

TEST(HessianBounds, OfRidgeRegressionIsItsClosedForm) {
    for (const double weight_decay : {0.0, 0.3}) {
        const ArrayData data(40, {5}, 0);
        const torch::Tensor x = torch::tensor(std::vector<float>(data.values().begin(), data.values().end()))
                                    .reshape({40, 5})
                                    .to(torch::kFloat64);
        // (1/m)·(‖Xw − y‖² + η·‖w‖²), and the optimizer's decay
        const auto hessian = (x.t().matmul(x) + 2.5 * torch::eye(5, torch::kFloat64)) * (2.0 / 40);
        const torch::Tensor exact = torch::linalg_eigvalsh(hessian) + weight_decay;
        const double a = exact[0].item<double>(), b = exact[-1].item<double>();
        const HessianBounds found = estimate("ridge:2.5", data, weight_decay);
        EXPECT_NEAR(found.min, a, kTolerance * a);
        EXPECT_NEAR(found.max, b, kTolerance * b);
    }
}

TEST(HessianBounds, OfLogisticRegressionIsNotBelowItsWeightDecay) {
    const ArrayData data(200, {12}, 4);
    const HessianBounds found = estimate("logistic", data, 0.02);
    // Equal shifts of all logits change nothing but the decay: it is the smallest eigenvalue.
    EXPECT_GE(found.min, 0.02 * (1 - kTolerance));
    EXPECT_LE(found.min, 0.02 * 1.05);
    EXPECT_GT(found.max, 2 * found.min);

    const HessianBounds again = estimate("logistic", data, 0.02);
    EXPECT_EQ(again.min, found.min);
    EXPECT_EQ(again.max, found.max);
}

TEST(HessianBounds, OfAScriptIsThatOfTheSameNetwork) {
    const TempDir dir;
    const ArrayData data(60, {5}, 0);
    const std::string net = saved(dir, "return torch.matmul(x, self.weight)", torch::ones({5}));
    const HessianBounds found = estimate(net, data), native = estimate("ridge:0", data);
    EXPECT_NEAR(found.min, native.min, kTolerance * native.min);
    EXPECT_NEAR(found.max, native.max, kTolerance * native.max);
}

TEST(HessianBounds, RefusesWhatIsNotConvex) {
    const ArrayData data(200, {6}, 3);
    EXPECT_THAT(refused("mlp:8", data), AllOf(HasSubstr("--late-weight certified: the Hessian of --model mlp:8 has an "
                                                        "eigenvalue of -"),
                                              HasSubstr("give --curvature A,B, or a larger --weight-decay")));
}

TEST(HessianBounds, RefusesWhatHasNoSecondDerivative) {
    const TempDir dir;
    const std::string net = saved(dir, "return torch.cdist(x, self.weight, 3.0)", torch::rand({3, 6}));
    EXPECT_THAT(refused(net, ArrayData(40, {6}, 3)),
                AllOf(HasSubstr("net.pt: its curvature cannot be estimated"), HasSubstr("_cdist_backward"),
                      HasSubstr("give --curvature A,B")));
}

} // namespace
} // namespace lategrad
