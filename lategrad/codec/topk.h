#pragma once

#include "lategrad/codec/sparse.h"

namespace lategrad {

/// `topk:R`: the largest R of the entries, with error feedback (Stich et al. 2018, algorithm 1; contraction 1 − R,
/// their definition 2.1). Exactly the largest of the whole gradient, not of each chunk.
class TopKRule final : public SparseRule {
  public:
    using SparseRule::SparseRule;
};

} // namespace lategrad
