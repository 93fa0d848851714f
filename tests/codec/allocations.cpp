#include "tests/codec/allocations.h"

#include <malloc.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>

namespace lategrad {
namespace {

std::atomic<long> count{0};
std::atomic<long> bytes_asked_for{0};

void note(std::size_t bytes) {
    ++count;
    bytes_asked_for += static_cast<long>(bytes);
}

} // namespace

long allocations() {
    return count;
}

long allocated_bytes() {
    return bytes_asked_for;
}

} // namespace lategrad

// Not inlined: GCC would see malloc and free of different pairs.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
    lategrad::note(bytes);
    if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
    throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { // std::stable_sort asks it
    lategrad::note(bytes);
    return std::malloc(bytes == 0 ? 1 : bytes);
}
extern "C" int posix_memalign(void** memory, std::size_t alignment, std::size_t bytes) noexcept {
    lategrad::note(bytes);
    *memory = memalign(alignment, bytes);
    return *memory ? 0 : ENOMEM;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
    std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}
