#pragma once

namespace lategrad {

/// How often this program has called operator new or posix_memalign (LargeVector, the blocks of pools); what C
/// libraries take does not count.
long allocations();
/// How many bytes it asked for by these calls.
long allocated_bytes();

} // namespace lategrad
