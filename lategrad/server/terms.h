/// From a decision to the terms of its sum; shared by the server and the replay of its runs.
#pragma once

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include "lategrad/core/gradient.h"
#include "lategrad/server/update.h"

namespace lategrad {

/// Of the freshest gradient in the update of `version`: those that are as fresh give their buffer tails (BatchNorm). A
/// policy that applies a fresh gradient averages over the fresh ones; async rarely does, and takes its freshest.
inline std::uint64_t least_staleness(std::span<const AppliedGradient> applied, Version version) {
    std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
    for (const AppliedGradient& gradient : applied) least = std::min(least, version - gradient.base);
    return least;
}

/// The term s·b/D · g; nothing where D is zero, which is when every late weight has vanished.
inline UpdateTerm make_term(const AppliedGradient& gradient, Version version, double denominator,
                            std::uint64_t least_staleness, Buffer payload) {
    return {.payload = std::move(payload),
            .coefficient =
                denominator > 0 ? static_cast<float>(gradient.weight * gradient.examples / denominator) : 0.0f,
            .gives_buffers = version - gradient.base == least_staleness};
}

} // namespace lategrad
