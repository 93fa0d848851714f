#include "lategrad/data/dataset.h"

namespace lategrad {

std::size_t Dataset::features() const {
    std::size_t product = 1;
    for (const std::int64_t dimension : shape_) product *= static_cast<std::size_t>(dimension);
    return product;
}

} // namespace lategrad
