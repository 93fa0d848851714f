#include "lategrad/data/partition.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"
#include "lategrad/core/random.h"

namespace lategrad {
namespace {

using Part = std::vector<std::uint32_t>;

constexpr double kAlphaMin = 1e-6, kAlphaMax = 1e6;

/// Standard normal, by the polar method (Marsaglia and Bray 1964).
double normal(RandomStream& random) {
    for (;;) {
        const double x = 2 * random.uniform() - 1, y = 2 * random.uniform() - 1;
        const double s = x * x + y * y;
        if (s > 0 && s < 1) return x * std::sqrt(-2 * std::log(s) / s);
    }
}

/// The logarithm of a Gamma(shape, 1) variable (Marsaglia and Tsang 2000, "A simple method for generating gamma
/// variables"), because the variable itself underflows at small shapes.
double log_gamma_variable(double shape, RandomStream& random) {
    if (shape < 1) // their §6: Gamma(a) = Gamma(a + 1)·U^(1/a)
        return std::log1p(-random.uniform()) / shape + log_gamma_variable(shape + 1, random);
    const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
    for (;;) {
        const double x = normal(random);
        const double v = (1 + c * x) * (1 + c * x) * (1 + c * x);
        if (v > 0 && std::log1p(-random.uniform()) < x * x / 2 + d - d * v + d * std::log(v))
            return std::log(d) + std::log(v);
    }
}

/// Shares of `workers` that add up to 1.
std::vector<double> dirichlet(double alpha, std::size_t workers, RandomStream& random) {
    std::vector<double> shares(workers);
    for (double& share : shares) share = log_gamma_variable(alpha, random);
    const double largest = *std::max_element(shares.begin(), shares.end());
    double sum = 0;
    for (double& share : shares) sum += share = std::exp(share - largest);
    for (double& share : shares) share /= sum;
    return shares;
}

/// Ranges whose lengths differ by at most one.
std::vector<Part> cut_evenly(const Part& order, std::size_t workers) {
    std::vector<Part> parts(workers);
    for (std::size_t i = 0; i < workers; ++i) {
        const auto begin = order.begin() + static_cast<std::ptrdiff_t>(order.size() * i / workers);
        const auto end = order.begin() + static_cast<std::ptrdiff_t>(order.size() * (i + 1) / workers);
        parts[i].assign(begin, end);
    }
    return parts;
}

/// Cuts every class by shares of its own. `order` is sorted by label.
std::vector<Part> cut_by_shares(const Part& order, std::span<const std::int64_t> labels, double alpha,
                                std::size_t workers, RandomStream& random) {
    std::vector<Part> parts(workers);
    for (auto first = order.begin(); first != order.end();) {
        const auto last = std::find_if(first, order.end(), [&](auto i) { return labels[i] != labels[*first]; });
        const auto examples = static_cast<double>(last - first);
        const std::vector<double> shares = dirichlet(alpha, workers, random);
        double share = 0;
        auto begin = first;
        for (std::size_t i = 0; i < workers; ++i) {
            share += shares[i];
            const auto end = i + 1 == workers ? last : first + std::min(std::lround(share * examples), last - first);
            parts[i].insert(parts[i].end(), begin, end);
            begin = end;
        }
        first = last;
    }
    const auto shorter = [](const Part& a, const Part& b) { return a.size() < b.size(); };
    for (Part& part : parts)
        if (part.empty()) {
            Part& longest = *std::max_element(parts.begin(), parts.end(), shorter);
            part.push_back(longest.back());
            longest.pop_back();
        }
    return parts;
}

} // namespace

Partition Partition::parse(std::string_view spec) {
    for (const char* kind : {"iid", "contiguous", "label", "shared"})
        if (spec == kind) return {.kind = kind};
    constexpr std::string_view prefix = "dirichlet:";
    if (spec.starts_with(prefix)) {
        const auto alpha = parse_number<double>(spec.substr(prefix.size()));
        if (alpha && *alpha >= kAlphaMin && *alpha <= kAlphaMax) return {.kind = "dirichlet", .alpha = *alpha};
        throw InputError(fmt::format("--partition {}: expected dirichlet:A with A from {} to {}, as in dirichlet:0.5",
                                     spec, kAlphaMin, kAlphaMax));
    }
    throw InputError(fmt::format("--partition {}: expected iid, contiguous, label, dirichlet:A or shared", spec));
}

std::vector<Part> divide(const Dataset& data, const Partition& partition, std::size_t workers, std::uint64_t seed) {
    CHECK(workers > 0);
    const std::string& kind = partition.kind;
    Part order(data.size());
    std::iota(order.begin(), order.end(), 0);
    if (kind == "shared") return std::vector<Part>(workers, order);

    if (order.size() < workers)
        throw InputError(fmt::format("--workers {}: more than the {} training examples, of which each needs one",
                                     workers, order.size()));
    if (kind == "contiguous") return cut_evenly(order, workers);

    RandomStream random(seed, Purpose::partition);
    random.shuffle(std::span(order));
    if (kind == "iid") return cut_evenly(order, workers);

    CHECK(kind == "label" || kind == "dirichlet");
    if (data.classes() == 0)
        throw InputError(fmt::format("--partition {}: divides by class, but this data set has numbers to predict; use "
                                     "iid or contiguous",
                                     kind));
    const auto labels = data.labels();
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return labels[a] < labels[b]; });
    if (kind == "label") return cut_evenly(order, workers);
    return cut_by_shares(order, labels, partition.alpha, workers, random);
}

} // namespace lategrad
