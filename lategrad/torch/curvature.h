/// How much a loss curves: the extreme eigenvalues of its Hessian.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lategrad/data/dataset.h"
#include "lategrad/torch/model.h"

namespace lategrad {

/// a and b of the step-size condition (docs/theory.md).
struct HessianBounds {
    double min = 0, max = 0;
};

/// The most examples that an estimate looks at.
inline constexpr std::size_t kCurvatureExamples = 1024;

/// Of the training loss with `weight_decay`/2·‖w‖², at the initial parameters that `make_model` gives for `seed`, over
/// examples drawn by the seed: power iteration on exact Hessian-vector products, which approaches both from within: max
/// is not too large, min not too small. Ridge regression curves the same everywhere, other losses do not. The same
/// arguments give the same bits.
///
/// Throws InputError where min is not above 0, or libtorch has no second derivative of the model.
HessianBounds estimate_curvature(const ModelSpec& spec, const Dataset& train, double weight_decay, int intra_op_threads,
                                 std::uint64_t seed);

} // namespace lategrad
