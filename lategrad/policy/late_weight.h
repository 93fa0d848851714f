/// s of the update rule: what a gradient counts for by its staleness (docs/policies.md, "Late weights").
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace lategrad {

/// Source: `inverse` is after Zhang et al. 2016, "Staleness-aware Async-SGD for Distributed Deep Learning"; `certified`
/// is the step-size condition of the multi-step gradient (docs/theory.md); the others are this project's own.
struct LateWeight {
    enum class Kind { one, inverse, sqrt, exp, span, certified };
    Kind kind = Kind::one;
    double beta = 0; ///< exp
    /// certified: a/2b of the curvature, the most that late gradients' steps may sum to per step of the fresh ones.
    /// 0, nothing is known: late gradients weigh nothing.
    double late_share = 0;

    /// `one`, `inverse`, `sqrt`, `exp:BETA`, `span` or `certified`. Throws InputError naming `--late-weight`.
    static LateWeight parse(std::string_view spec);
    std::string spec() const;
    bool certified() const { return kind == Kind::certified; }
    /// certified: for a loss whose curvature is in [a, b]. REQUIRES: 0 < a <= b.
    void certify(double a, double b) { late_share = a / b / 2; }

    /// What the weight of a gradient in an update may depend on.
    struct Applied {
        std::uint64_t staleness = 0;
        std::uint64_t span_updates = 1; ///< span: updates since this worker was last applied, this one included
        std::uint32_t gradients = 1;    ///< span: how many of this worker's the update applies
        double fresh_examples = 0;      ///< certified: Σ b over the update's fresh gradients
        double late_examples = 0;       ///< certified: Σ b over its late ones
    };
    double of(const Applied& gradient) const;
};

} // namespace lategrad
