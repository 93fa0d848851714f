#include "lategrad/optim/sgd.h"

#include "lategrad/core/archive.h"
#include "lategrad/optim/state_vector.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lategrad/optim/sgd.cpp"
#include <hwy/foreach_target.h>
//
#include <hwy/highway.h>

#include "lategrad/core/for_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lategrad::HWY_NAMESPACE {
namespace {

// Mul, then Add or Sub, never MulAdd: two roundings on every instruction set.

template <class D, class V>
V decayed(D d, V grad, V param, float weight_decay) {
    return weight_decay == 0 ? grad : hn::Add(grad, hn::Mul(param, hn::Set(d, weight_decay)));
}

void plain(const Sgd::Factors& f, std::span<const float> in, std::span<float> out, std::span<const float> grad) {
    for_vectors(grad.size(), [&](auto d, std::size_t i) HWY_ATTR {
        const auto param = hn::LoadU(d, &in[i]);
        const auto step = decayed(d, hn::LoadU(d, &grad[i]), param, f.weight_decay);
        hn::StoreU(hn::Sub(param, hn::Mul(step, hn::Set(d, f.learning_rate))), d, &out[i]);
    });
}

void with_momentum(const Sgd::Factors& f, std::span<const float> in, std::span<float> out, std::span<const float> grad,
                   float* HWY_RESTRICT momentum) {
    for_vectors(grad.size(), [&](auto d, std::size_t i) HWY_ATTR {
        const auto param = hn::LoadU(d, &in[i]);
        const auto fresh = decayed(d, hn::LoadU(d, &grad[i]), param, f.weight_decay);
        const auto keep = hn::Set(d, f.momentum);
        const auto mean = hn::Add(hn::Mul(hn::LoadU(d, momentum + i), keep), fresh);
        hn::StoreU(mean, d, momentum + i);
        const auto step = f.nesterov ? hn::Add(fresh, hn::Mul(mean, keep)) : mean;
        hn::StoreU(hn::Sub(param, hn::Mul(step, hn::Set(d, f.learning_rate))), d, &out[i]);
    });
}

} // namespace
} // namespace lategrad::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lategrad {

HWY_EXPORT(plain);
HWY_EXPORT(with_momentum);

Sgd::Sgd(const OptimizerOptions& options, std::size_t parameters) {
    factors_.momentum = static_cast<float>(options.momentum);
    factors_.weight_decay = static_cast<float>(options.weight_decay);
    factors_.nesterov = options.nesterov;
    if (options.momentum != 0) momentum_ = zeroed_state(parameters);
}

void Sgd::begin_update(double learning_rate) {
    factors_.learning_rate = static_cast<float>(learning_rate);
    ++updates_;
}

void Sgd::apply(std::size_t first, std::span<const float> in, std::span<float> out, std::span<const float> grad) {
    if (momentum_) {
        HWY_DYNAMIC_DISPATCH(with_momentum)(factors_, in, out, grad, momentum_.floats().data() + first);
    } else {
        HWY_DYNAMIC_DISPATCH(plain)(factors_, in, out, grad);
    }
}

std::vector<std::span<float>> Sgd::state() {
    if (!momentum_) return {};
    return {momentum_.floats()};
}

void Sgd::persist(Archive& archive) {
    archive.section("optimizer");
    archive.expect(name(), "--optimizer");
    archive(updates_, factors_.learning_rate);
    archive.fixed(momentum_.floats(), "parameters with momentum");
}

} // namespace lategrad
#endif
