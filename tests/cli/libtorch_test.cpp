/// What needs libtorch in the test itself, in one file, because its headers take long to read: synchronous training is
/// what a plain libtorch loop computes, ridge regression reaches its closed form, and a network of the user's own
/// replays.
#include "lategrad/torch/torch_headers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "cli/training.h"
#include "lategrad/core/error.h"
#include "lategrad/data/batcher.h"
#include "lategrad/files/safetensors.h"
#include "tests/cli/program.h"

namespace lategrad {
namespace {

constexpr std::int64_t kFeatures = 40;
constexpr int kUpdates = 50;

/// A batch and a number of examples that n workers share evenly, or not.
struct Shape {
    std::size_t workers;
    std::size_t batch;
    std::size_t examples;
};

Problem problem_for(const std::filesystem::path& data, const Shape& shape, double lr, double momentum) {
    RunOptions options;
    options.data = data.string();
    options.model = "mlp:30";
    options.policy = "sync";
    options.workers = shape.workers;
    options.batch_size = shape.batch;
    options.lr = lr;
    options.momentum = momentum;
    options.updates = kUpdates;
    return make_problem(resolve(options));
}

/// The same network, written out.
struct Plain {
    torch::nn::Linear fc1{kFeatures, 30};
    torch::nn::Linear fc2{30, 10};

    explicit Plain(const Model& model) {
        torch::NoGradGuard no_grad;
        std::vector<float> flat(model.size());
        model.initial_parameters(flat);
        std::size_t first = 0;
        for (torch::Tensor& parameter : parameters()) {
            parameter.copy_(torch::from_blob(flat.data() + first, parameter.sizes()));
            first += static_cast<std::size_t>(parameter.numel());
        }
        CHECK(first == flat.size());
    }

    std::vector<torch::Tensor> parameters() { return {fc1->weight, fc1->bias, fc2->weight, fc2->bias}; }

    std::vector<torch::Tensor> gradient(Batch& batch) {
        const auto n = static_cast<std::int64_t>(batch.examples);
        const auto x = torch::from_blob(batch.features.data(), {n, kFeatures});
        const auto y = torch::from_blob(batch.labels.data(), {n}, torch::kLong);
        const auto loss = torch::nn::functional::cross_entropy(fc2->forward(torch::relu(fc1->forward(x))), y);
        return torch::autograd::grad({loss}, parameters());
    }

    std::vector<float> flat() {
        std::vector<float> out;
        for (const torch::Tensor& parameter : parameters()) {
            const float* values = parameter.data_ptr<float>();
            out.insert(out.end(), values, values + parameter.numel());
        }
        return out;
    }
};

std::vector<Batcher> batchers(const Problem& problem) {
    std::vector<Batcher> all;
    for (std::uint32_t i = 0; i < problem.parts->size(); ++i) all.push_back(problem.batcher(WorkerId{i}));
    return all;
}

/// SGD over the n sub-batches of an update, summed in worker order.
std::vector<float> loop_over_sub_batches(const Problem& problem) {
    Plain plain(*problem.model);
    auto draw = batchers(problem);
    const double lr = problem.job.options.lr;
    const double momentum = problem.job.options.momentum;
    std::vector<torch::Tensor> velocity;
    Batch batch;
    for (std::uint64_t step = 0; step < kUpdates; ++step) {
        std::vector<torch::Tensor> sum;
        for (std::size_t i = 0; i < draw.size(); ++i) {
            draw[i].draw(own_data(WorkerId{static_cast<std::uint32_t>(i)}, Step{step}, problem.batches[i]), batch);
            const double share =
                static_cast<double>(problem.batches[i]) / static_cast<double>(problem.job.options.batch_size);
            const auto gradient = plain.gradient(batch);
            for (std::size_t p = 0; p < gradient.size(); ++p) {
                if (i == 0) sum.push_back(gradient[p] * share);
                else sum[p] = sum[p] + gradient[p] * share;
            }
        }
        torch::NoGradGuard no_grad;
        auto parameters = plain.parameters();
        for (std::size_t p = 0; p < parameters.size(); ++p) {
            if (momentum != 0) {
                if (step == 0) velocity.push_back(sum[p]);
                else velocity[p] = velocity[p] * momentum + sum[p];
            }
            parameters[p].sub_((momentum != 0 ? velocity[p] : sum[p]) * lr);
        }
    }
    return plain.flat();
}

/// SGD over the whole batch of an update at once.
std::vector<float> loop_over_whole_batches(const Problem& problem) {
    Plain plain(*problem.model);
    auto draw = batchers(problem);
    Batch part;
    for (std::uint64_t step = 0; step < kUpdates; ++step) {
        Batch whole;
        for (std::uint32_t i = 0; i < draw.size(); ++i) {
            draw[i].draw(own_data(WorkerId{i}, Step{step}, problem.batches[i]), part);
            whole.examples += part.examples;
            whole.features.insert(whole.features.end(), part.features.begin(), part.features.end());
            whole.labels.insert(whole.labels.end(), part.labels.begin(), part.labels.end());
        }
        const auto gradient = plain.gradient(whole);
        torch::NoGradGuard no_grad;
        auto parameters = plain.parameters();
        for (std::size_t p = 0; p < parameters.size(); ++p) parameters[p].sub_(gradient[p] * problem.job.options.lr);
    }
    return plain.flat();
}

std::vector<float> trained(const Problem& problem) {
    const Trained result = train_in_threads(problem, {});
    EXPECT_EQ(result.version.value(), static_cast<std::uint64_t>(kUpdates));
    return result.parameters;
}

class SyncTwin : public testing::TestWithParam<Shape> {
  protected:
    void SetUp() override { at::set_num_threads(1); }
};

TEST_P(SyncTwin, IsBitEqualToALoopThatSumsTheSubBatchesInWorkerOrder) {
    const TempDir dir;
    const auto data = write_blobs(dir, GetParam().examples);
    for (const double lr : {0.01, 0.3, 3.0}) {
        for (const double momentum : {0.0, 0.9}) {
            const Problem problem = problem_for(data, GetParam(), lr, momentum);
            const auto ours = trained(problem);
            const auto plain = loop_over_sub_batches(problem);
            ASSERT_EQ(ours.size(), plain.size());
            EXPECT_EQ(std::memcmp(ours.data(), plain.data(), ours.size() * sizeof(float)), 0)
                << "lr " << lr << " momentum " << momentum;
        }
    }
}

TEST_P(SyncTwin, IsWithin1e5OfWholeBatchSgd) {
    const TempDir dir;
    const Problem problem = problem_for(write_blobs(dir, GetParam().examples), GetParam(), 0.01, 0);
    const auto ours = trained(problem);
    const auto plain = loop_over_whole_batches(problem);
    double difference = 0;
    double norm = 0;
    for (std::size_t i = 0; i < ours.size(); ++i) {
        difference += std::pow(static_cast<double>(ours[i]) - plain[i], 2);
        norm += std::pow(static_cast<double>(plain[i]), 2);
    }
    EXPECT_LE(std::sqrt(difference / norm), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Workers, SyncTwin,
                         testing::Values(Shape{1, 64, 400}, Shape{2, 64, 400}, Shape{4, 64, 400}, Shape{8, 64, 400},
                                         Shape{7, 61, 403}), // nothing divides, no share is a power of two
                         [](const auto& info) { return std::to_string(info.param.workers); });

/// Ridge regression on 40 rows, and its closed form (XᵀX + η·I)⁻¹·Xᵀy.
class RidgeRegression : public testing::Test {
  protected:
    static constexpr std::int64_t kRows = 40, kWidth = 3;
    static constexpr double kEta = 0.5;

    RidgeRegression() {
        torch::manual_seed(5);
        const auto x = torch::rand({kRows, kWidth}) * 2 - 1;
        const auto y = x.matmul(torch::tensor({1.0f, -2.0f, 0.5f})) + 0.3 * torch::randn({kRows});
        const auto view = [](const char* name, const torch::Tensor& tensor) {
            const float* values = tensor.data_ptr<float>();
            return TensorView{name, tensor.sizes().vec(), {values, static_cast<std::size_t>(tensor.numel())}};
        };
        const std::vector<TensorView> tensors = {view("x", x), view("y", y), view("x_test", x), view("y_test", y)};
        write_safetensors(dir_ / "rows.safetensors", tensors, {});
        const auto xd = x.to(torch::kDouble);
        minimiser_ = torch::linalg_solve(xd.t().matmul(xd) + kEta * torch::eye(kWidth, torch::kDouble),
                                         xd.t().matmul(y.to(torch::kDouble)));
    }

    /// The distance of what the program's own parts train from the closed form.
    double distance(const std::string& policy, const std::string& partition, std::size_t workers, std::size_t batch,
                    const std::string& late_weight = "one") {
        RunOptions options;
        options.model = fmt::format("ridge:{}", kEta);
        options.data = (dir_ / "rows.safetensors").string();
        options.policy = policy;
        options.late_weight = late_weight;
        options.partition = partition;
        options.workers = workers;
        options.batch_size = batch;
        options.lr = 0.2;
        options.updates = 400;
        const auto trained = train_in_threads(certified(make_problem(resolve(options))), {}).parameters;
        return (torch::tensor(trained).to(torch::kDouble) - minimiser_).norm().item<double>();
    }

    TempDir dir_;
    torch::Tensor minimiser_;
};

TEST_F(RidgeRegression, SyncReachesTheClosedFormOverUnevenPartsToo) {
    EXPECT_LT(distance("sync", "contiguous", 4, kRows), 1e-5);
    EXPECT_LT(distance("sync", "contiguous", 3, kRows), 1e-5); // parts and shares of 13, 13 and 14
}

TEST_F(RidgeRegression, EveryPolicyReachesItWhenEachWorkerHoldsAllRows) {
    for (const char* policy : {"sync", "backup", "reuse", "kasync", "async", "ssp:2"}) {
        EXPECT_LT(distance(policy, "shared", 4, 4 * kRows), 1e-5) << policy;
    }
    EXPECT_LT(distance("reuse", "shared", 4, 4 * kRows, "certified"), 1e-5);
}

TEST(Replay, ReproducesANetworkWithBatchNorm) {
    const TempDir dir;
    const auto save = [&](double weight) {
        torch::jit::Module net("Net");
        net.register_attribute("training", c10::BoolType::get(), true);
        net.register_parameter("weight", torch::full({kFeatures, 10}, weight).requires_grad_(), false);
        net.register_buffer("mean", torch::zeros({kFeatures}));
        net.register_buffer("var", torch::ones({kFeatures}));
        net.define("def forward(self, x):\n"
                   "    y = torch.batch_norm(x, None, None, self.mean, self.var, self.training, 0.1, 1e-5, False)\n"
                   "    return torch.matmul(y, self.weight)\n");
        net.save((dir / "net.pt").string());
    };
    save(0.1);
    const std::string run = (dir / "run").string();
    for (const std::string policy : {"reuse", "async"}) {
        SCOPED_TRACE(policy);
        std::filesystem::remove_all(run);
        const Ran ran = run_program({"train",
                                     "--model",
                                     (dir / "net.pt").string(),
                                     "--data",
                                     write_blobs(dir).string(),
                                     "--policy",
                                     policy,
                                     "--workers",
                                     "4",
                                     "--wait-for",
                                     "2",
                                     "--straggle",
                                     "exp:1ms",
                                     "--batch-size",
                                     "64",
                                     "--updates",
                                     "30",
                                     "--quiet",
                                     "--out",
                                     run});
        ASSERT_EQ(ran.status, 0) << ran.err;
        const Ran replayed = run_program({"replay", run});
        EXPECT_EQ(replayed.status, 0) << replayed.out << replayed.err;
    }
    // The network has been trained on since: another file than the one recorded.
    save(0.2);
    const Ran refused = run_program({"replay", run});
    EXPECT_EQ(refused.status, 2);
    EXPECT_THAT(refused.err, testing::HasSubstr("model: "));
}

} // namespace
} // namespace lategrad
