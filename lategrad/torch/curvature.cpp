#include "lategrad/torch/curvature.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/core/random.h"
#include "lategrad/torch/libtorch.h"
#include "lategrad/torch/network.h"

namespace lategrad {

namespace {

constexpr int kProductsMax = 300;
constexpr int kRound = 10; ///< products
constexpr double kProgressMin = 1e-3;

Batch draw_examples(const Dataset& train, RandomStream random) {
    std::vector<std::uint32_t> indices(train.size());
    std::iota(indices.begin(), indices.end(), 0);
    random.shuffle(std::span(indices));
    indices.resize(std::min(indices.size(), kCurvatureExamples));
    Batch batch;
    train.gather(indices, batch);
    return batch;
}

/// Products of the Hessian of a batch's loss with vectors, exact: the gradient of gradient·v (Pearlmutter 1994, "Fast
/// Exact Multiplication by the Hessian"). The gradient is built once, so that a model that draws random numbers is the
/// same function throughout.
class Hessian {
  public:
    Hessian(Model::Network& network, const Batch& batch, double weight_decay) : weight_decay_(weight_decay) {
        for (const auto& [name, tensor] : network.parameters()) parameters_.push_back(tensor);
        torch::Tensor loss = network.data_loss(network.forward(network.features(batch)), batch);
        if (const torch::Tensor penalty = network.penalty(); penalty.defined()) loss = loss + penalty;
        gradient_ = flat(torch::autograd::grad({loss}, parameters_, {}, true, true, true));
    }

    std::size_t size() const { return static_cast<std::size_t>(gradient_.numel()); }

    torch::Tensor times(const torch::Tensor& vector) const {
        const torch::Tensor along = gradient_.dot(vector.to(torch::kFloat32));
        const torch::Tensor product = flat(torch::autograd::grad({along}, parameters_, {}, true, false, true));
        return product.to(torch::kFloat64) + vector * weight_decay_;
    }

  private:
    /// One vector; zeros for what the loss does not depend on.
    torch::Tensor flat(const std::vector<torch::Tensor>& gradients) const {
        std::vector<torch::Tensor> parts;
        for (std::size_t i = 0; i < gradients.size(); ++i)
            parts.push_back((gradients[i].defined() ? gradients[i] : torch::zeros_like(parameters_[i])).reshape(-1));
        return torch::cat(parts);
    }

    double weight_decay_;
    std::vector<torch::Tensor> parameters_;
    torch::Tensor gradient_;
};

enum class End { smallest, largest };

/// Power iteration that goes, with every product, to the best vector there is between where it stands, where the
/// product points and where it came from (Knyazev 2001, "Toward the Optimal Preconditioned Eigensolver", for one vector
/// and without preconditioner): plain power iteration takes thousands of products for the smallest eigenvalue. Ends
/// early at anything not above 0.
double eigenvalue(const Hessian& hessian, End end, RandomStream random) {
    std::vector<double> start(hessian.size());
    for (double& value : start) value = random.uniform() - 0.5;
    torch::Tensor x = torch::tensor(start, torch::kFloat64);
    x /= x.norm();
    torch::Tensor hx = hessian.times(x); // H·x, and so on
    torch::Tensor step, h_step;
    double value = x.dot(hx).item<double>();
    double before = value;
    for (int products = 1; products < kProductsMax && value > 0; ++products) {
        std::vector<torch::Tensor> basis{x}, h_basis{hx};
        const auto add = [&](torch::Tensor v, torch::Tensor hv) {
            for (int pass = 0; pass < 2; ++pass) { // once leaves rounding errors of the size of what is left
                for (std::size_t i = 0; i < basis.size(); ++i) {
                    const torch::Tensor along = basis[i].dot(v);
                    v = v - along * basis[i];
                    hv = hv - along * h_basis[i];
                }
            }
            const double norm = v.norm().item<double>();
            if (norm < 1e-8) return;
            basis.push_back(v / norm);
            h_basis.push_back(hv / norm);
        };
        const torch::Tensor residual = hx - value * x;
        const double norm = residual.norm().item<double>();
        if (norm == 0) break;
        add(residual / norm, hessian.times(residual / norm));
        if (step.defined()) add(step, h_step);

        const torch::Tensor rows = torch::stack(basis), h_rows = torch::stack(h_basis);
        const auto [values, vectors] = torch::linalg_eigh(rows.matmul(h_rows.t())); // ascending
        const std::int64_t best = end == End::smallest ? 0 : values.numel() - 1;
        const torch::Tensor shares = vectors.select(1, best), of_step = shares.slice(0, 1);
        step = of_step.matmul(rows.slice(0, 1));
        h_step = of_step.matmul(h_rows.slice(0, 1));
        x = shares.matmul(rows);
        hx = shares.matmul(h_rows);
        value = values[best].item<double>();
        if (products % kRound != 0) continue;
        if (std::abs(value - before) <= kProgressMin * std::abs(value)) break;
        before = value;
    }
    return value;
}

} // namespace

HessianBounds estimate_curvature(const ModelSpec& spec, const Dataset& train, double weight_decay, int intra_op_threads,
                                 std::uint64_t seed) {
    CHECK(intra_op_threads > 0);
    const auto model = make_model(spec, train, seed);
    HessianBounds curvature;
    try {
        use_threads(intra_op_threads);
        model->network().train(true);
        const Batch batch = draw_examples(train, RandomStream(seed, Purpose::curvature, {0}));
        const Hessian hessian(model->network(), batch, weight_decay);
        curvature.min = eigenvalue(hessian, End::smallest, RandomStream(seed, Purpose::curvature, {1}));
        if (curvature.min > 0)
            curvature.max = eigenvalue(hessian, End::largest, RandomStream(seed, Purpose::curvature, {2}));
    } catch (const std::exception& failure) {
        throw InputError(fmt::format("--model {}: its curvature cannot be estimated, as --late-weight certified needs "
                                     "it: {}; give --curvature A,B",
                                     spec.text, one_line(failure)));
    }
    if (!(curvature.min > 0))
        throw InputError(
            fmt::format("--late-weight certified: the Hessian of --model {} has an eigenvalue of {:.2g} at the initial "
                        "parameters, and where it is not above 0 no late gradient is certified; give --curvature A,B, "
                        "or a larger --weight-decay",
                        spec.text, curvature.min));
    return curvature;
}

} // namespace lategrad
