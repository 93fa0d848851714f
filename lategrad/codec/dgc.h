#pragma once

#include "lategrad/codec/sparse.h"

namespace lategrad {

/// `dgc:R` or `dgc:R,CLIP`: Deep Gradient Compression (Lin et al. 2018). The largest R of what has accumulated is sent;
/// what accumulates is the worker's own momentum (momentum correction, their section 3.2, equation 7), which is set to
/// zero where an entry is sent (momentum factor masking, section 3.3); a gradient whose norm exceeds CLIP/√N, with N
/// workers, is scaled to it (local gradient clipping, section 3.2; without CLIP none is); in the first four epochs a
/// quarter, a 16th, a 64th and a 256th are sent where R is less (warm-up training, section 3.3).
///
/// The server's momentum must be off: this is it.
class DgcRule final : public SparseRule {
  public:
    static constexpr double kWarmUpEpochs = 4;

    /// `clip` 0: none.
    DgcRule(double share, double clip) : SparseRule(share), clip_(clip) {}

    bool takes_momentum() const override { return true; }
    double share_at(double epoch) const override;
    double clip() const override { return clip_; }

  private:
    double clip_;
};

} // namespace lategrad
