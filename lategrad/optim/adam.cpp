#include "lategrad/optim/adam.h"

#include <cmath>

#include "lategrad/core/archive.h"
#include "lategrad/optim/state_vector.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lategrad/optim/adam.cpp"
#include <hwy/foreach_target.h>
//
#include <hwy/highway.h>

#include "lategrad/core/for_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lategrad::HWY_NAMESPACE {
namespace {

/// No MulAdd and no approximate reciprocals: Mul, Add, Div and Sqrt round correctly on every instruction set.
void adam(const Adam::Factors& f, std::span<const float> in, std::span<float> out, std::span<const float> grad,
          float* HWY_RESTRICT mean, float* HWY_RESTRICT square) {
    for_vectors(grad.size(), [&](auto d, std::size_t i) HWY_ATTR {
        auto param = hn::LoadU(d, &in[i]);
        auto g = hn::LoadU(d, &grad[i]);
        if (f.l2 != 0) g = hn::Add(g, hn::Mul(param, hn::Set(d, f.l2)));
        if (f.shrink != 1) param = hn::Mul(param, hn::Set(d, f.shrink));

        const auto m = hn::Add(hn::Mul(hn::LoadU(d, mean + i), hn::Set(d, f.beta1)), hn::Mul(g, hn::Set(d, f.fresh1)));
        const auto v = hn::Add(hn::Mul(hn::LoadU(d, square + i), hn::Set(d, f.beta2)),
                               hn::Mul(hn::Mul(hn::Set(d, f.fresh2), g), g));
        hn::StoreU(m, d, mean + i);
        hn::StoreU(v, d, square + i);

        const auto scale = hn::Add(hn::Div(hn::Sqrt(v), hn::Set(d, f.root_correction2)), hn::Set(d, f.epsilon));
        hn::StoreU(hn::Sub(param, hn::Div(hn::Mul(hn::Set(d, f.step_size), m), scale)), d, &out[i]);
    });
}

} // namespace
} // namespace lategrad::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lategrad {

HWY_EXPORT(adam);

Adam::Adam(const OptimizerOptions& options, WeightDecay decay, std::size_t parameters)
    : options_(options),
      decay_(decay),
      mean_(zeroed_state(parameters)),
      square_(zeroed_state(parameters)) {
    if (decay_ == WeightDecay::l2) factors_.l2 = static_cast<float>(options.weight_decay);
    factors_.beta1 = static_cast<float>(options.beta1);
    factors_.fresh1 = static_cast<float>(1 - options.beta1);
    factors_.beta2 = static_cast<float>(options.beta2);
    factors_.fresh2 = static_cast<float>(1 - options.beta2);
    factors_.epsilon = static_cast<float>(options.epsilon);
}

void Adam::begin_update(double learning_rate) {
    ++updates_;
    const auto t = static_cast<double>(updates_);
    factors_.step_size = static_cast<float>(learning_rate / (1 - std::pow(options_.beta1, t)));
    factors_.root_correction2 = static_cast<float>(std::sqrt(1 - std::pow(options_.beta2, t)));
    if (decay_ == WeightDecay::decoupled) {
        factors_.shrink = static_cast<float>(1 - learning_rate * options_.weight_decay);
    }
}

void Adam::apply(std::size_t first, std::span<const float> in, std::span<float> out, std::span<const float> grad) {
    HWY_DYNAMIC_DISPATCH(adam)
    (factors_, in, out, grad, mean_.floats().data() + first, square_.floats().data() + first);
}

void Adam::persist(Archive& archive) {
    archive.section("optimizer");
    archive.expect(name(), "--optimizer");
    archive(updates_, factors_.step_size, factors_.root_correction2, factors_.shrink);
    archive.fixed(mean_.floats(), "parameters");
    archive.fixed(square_.floats(), "parameters");
}

} // namespace lategrad
#endif
