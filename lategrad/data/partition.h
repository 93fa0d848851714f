/// Which worker holds which examples.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lategrad/data/dataset.h"

namespace lategrad {

/// `iid` (shuffled, even parts), `contiguous` (even ranges in file order), `label` (sorted by label, even ranges: each
/// worker holds few classes), `dirichlet:A` (each class divided by its own shares from Dirichlet(A), so that parts are
/// uneven too; Yurochkin et al. 2019, §4), `shared` (every worker holds all).
struct Partition {
    std::string kind = "iid";
    double alpha = 0; ///< dirichlet

    /// Throws InputError naming `--partition`.
    static Partition parse(std::string_view spec);
};

/// The examples of each worker: disjoint, all of them, none empty (but for `shared`, where each holds all). Same
/// arguments, same result, on every machine. Throws InputError where there are fewer examples than workers (but for
/// `shared`), and where `label` or `dirichlet` meet data without classes.
std::vector<std::vector<std::uint32_t>> divide(const Dataset& data, const Partition& partition, std::size_t workers,
                                               std::uint64_t seed);

} // namespace lategrad
