/// Gradients by libtorch, computed where the flat vectors lie.
#pragma once

#include <cstdint>
#include <memory>

#include "lategrad/data/dataset.h"
#include "lategrad/torch/model.h"
#include "lategrad/worker/gradient_source.h"

namespace lategrad {

/// A worker's own copy of the model. Copies nothing: parameters are read in `params` and gradients added up in `grad`.
/// The same `params`, batch and thread count give the same bits, on any thread. `seed` matters only to a model that
/// draws random numbers; each worker then needs its own.
///
/// Throws InputError where model and data do not fit; `compute` throws EnvironmentError when libtorch fails.
std::unique_ptr<GradientSource> make_gradient_source(const ModelSpec& spec, const Dataset& train, int intra_op_threads,
                                                     std::uint64_t seed = 1);

} // namespace lategrad
