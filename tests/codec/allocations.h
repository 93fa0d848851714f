#pragma once

namespace lategrad {

/// How often this program has called operator new: of a pool for each block too; what C libraries take does not count.
long allocations();

} // namespace lategrad
