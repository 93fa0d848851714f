/// How good parameters are on a data set.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "lategrad/data/dataset.h"
#include "lategrad/torch/model.h"

namespace lategrad {

struct Score {
    double loss = 0;                ///< mean over the examples; for ridge with its penalty, as in training
    std::optional<double> accuracy; ///< share of examples whose class has the largest logit; none for regression
};

/// Has its own copy of the model, in evaluation mode (no dropout, BatchNorm by its running statistics). One thread at a
/// time.
class TorchEvaluator {
  public:
    /// Throws InputError where model and data do not fit.
    TorchEvaluator(const ModelSpec& spec, const Dataset& train, int intra_op_threads);
    ~TorchEvaluator();

    /// Reads the whole of `data`; the same arguments give the same bits. Throws EnvironmentError when libtorch fails.
    /// REQUIRES: params.size() is the model's, data not empty.
    Score evaluate(std::span<const float> params, const Dataset& data);
    /// The same; nothing where it was given up, which is asked now and then.
    std::optional<Score> evaluate(std::span<const float> params, const Dataset& data,
                                  const std::function<bool()>& given_up);

  private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace lategrad
