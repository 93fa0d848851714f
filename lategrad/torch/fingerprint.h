/// What decides the bits of a gradient besides its inputs.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace lategrad {

/// Equal fingerprints: equal parameters and batch give the same bits.
struct Fingerprint {
    /// libtorch's version and build, the instruction set it picked, the BLAS under it, the processor, the threads.
    std::map<std::string, std::string> fields;

    bool operator==(const Fingerprint&) const = default;
};

Fingerprint fingerprint(int intra_op_threads);

/// One text per field that differs, such as "threads: 1 recorded, 2 here".
std::vector<std::string> differences(const Fingerprint& recorded, const Fingerprint& here);

/// True when libtorch computes on the reference BLAS, which makes LeNet about three times slower than OpenBLAS does.
bool reference_blas();

} // namespace lategrad
