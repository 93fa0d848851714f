/// s of the update rule: what a gradient counts for by its staleness (docs/policies.md, "Late weights").
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace lategrad {

/// Source: `inverse` is after Zhang et al. 2016, "Staleness-aware Async-SGD for Distributed Deep Learning"; the others
/// are this project's own.
struct LateWeight {
    enum class Kind { one, inverse, sqrt, exp, span };
    Kind kind = Kind::one;
    double beta = 0; ///< exp

    /// `one`, `inverse`, `sqrt`, `exp:BETA` or `span`. Throws InputError naming `--late-weight`.
    static LateWeight parse(std::string_view spec);
    std::string spec() const;

    /// `span_updates`: updates since this worker was last applied, this one included; `gradients`: how many of its
    /// gradients this update applies. Only `span` looks at these two.
    double of(std::uint64_t staleness, std::uint64_t span_updates, std::uint32_t gradients) const;
};

} // namespace lategrad
