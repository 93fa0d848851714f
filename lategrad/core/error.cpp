#include "lategrad/core/error.h"

#include <cstdio>
#include <cstdlib>

namespace lategrad {

void check_failed(const char* condition, const char* file, int line) {
    std::fprintf(stderr, "lategrad: internal error: CHECK(%s) failed at %s:%d; please report it\n", condition, file,
                 line);
    std::abort();
}

} // namespace lategrad
