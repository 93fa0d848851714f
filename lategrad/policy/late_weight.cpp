#include "lategrad/policy/late_weight.h"

#include <cmath>

#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"

namespace lategrad {

LateWeight LateWeight::parse(std::string_view spec) {
    if (spec == "one") return {Kind::one, 0};
    if (spec == "inverse") return {Kind::inverse, 0};
    if (spec == "sqrt") return {Kind::sqrt, 0};
    if (spec == "span") return {Kind::span, 0};
    if (spec.starts_with("exp:")) {
        const auto beta = parse_number<double>(spec.substr(4));
        if (beta && *beta >= 0) return {Kind::exp, *beta};
    }
    throw InputError(fmt::format("--late-weight {}: expected one, inverse, sqrt, exp:BETA (BETA >= 0) or span", spec));
}

std::string LateWeight::spec() const {
    switch (kind) {
    case Kind::one: return "one";
    case Kind::inverse: return "inverse";
    case Kind::sqrt: return "sqrt";
    case Kind::exp: return fmt::format("exp:{}", beta);
    case Kind::span: return "span";
    }
    CHECK(false && "unknown late weight");
}

double LateWeight::of(std::uint64_t staleness, std::uint64_t span_updates, std::uint32_t gradients) const {
    const auto tau = static_cast<double>(staleness);
    switch (kind) {
    case Kind::one: return 1;
    case Kind::inverse: return 1 / (1 + tau);
    case Kind::sqrt: return 1 / std::sqrt(1 + tau);
    case Kind::exp: return std::exp(-beta * tau);
    case Kind::span: return static_cast<double>(span_updates) / gradients;
    }
    CHECK(false && "unknown late weight");
}

} // namespace lategrad
