#include "lategrad/policy/late_weight.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"

namespace lategrad {

LateWeight LateWeight::parse(std::string_view spec) {
    if (spec == "one") return {.kind = Kind::one};
    if (spec == "inverse") return {.kind = Kind::inverse};
    if (spec == "sqrt") return {.kind = Kind::sqrt};
    if (spec == "span") return {.kind = Kind::span};
    if (spec == "certified") return {.kind = Kind::certified};
    if (spec.starts_with("exp:")) {
        const auto beta = parse_number<double>(spec.substr(4));
        if (beta && *beta >= 0) return {.kind = Kind::exp, .beta = *beta};
    }
    throw InputError(
        fmt::format("--late-weight {}: expected one, inverse, sqrt, exp:BETA (BETA >= 0), span or certified", spec));
}

std::string LateWeight::spec() const {
    switch (kind) {
    case Kind::one: return "one";
    case Kind::inverse: return "inverse";
    case Kind::sqrt: return "sqrt";
    case Kind::exp: return fmt::format("exp:{}", beta);
    case Kind::span: return "span";
    case Kind::certified: return "certified";
    }
    CHECK(false && "unknown late weight");
}

double LateWeight::of(const Applied& gradient) const {
    const auto tau = static_cast<double>(gradient.staleness);
    switch (kind) {
    case Kind::one: return 1;
    case Kind::inverse: return 1 / (1 + tau);
    case Kind::sqrt: return 1 / std::sqrt(1 + tau);
    case Kind::exp: return std::exp(-beta * tau);
    case Kind::span: return static_cast<double>(gradient.span_updates) / gradient.gradients;
    case Kind::certified:
        return tau == 0 ? 1 : std::min(1.0, late_share * gradient.fresh_examples / gradient.late_examples);
    }
    CHECK(false && "unknown late weight");
}

} // namespace lategrad
