#include "tests/codec/allocations.h"

#include <malloc.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>

namespace lategrad {
namespace {

std::atomic<long> count{0};

} // namespace

long allocations() {
    return count;
}

} // namespace lategrad

// Not inlined: GCC would see malloc and free of different pairs.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
    ++lategrad::count;
    if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
    throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { // std::stable_sort asks it
    ++lategrad::count;
    return std::malloc(bytes == 0 ? 1 : bytes);
}
extern "C" int posix_memalign(void** memory, std::size_t alignment, std::size_t bytes) noexcept {
    ++lategrad::count;
    *memory = memalign(alignment, bytes);
    return *memory ? 0 : ENOMEM;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
    std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}
