#include "lategrad/core/large_vector.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

namespace lategrad {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

} // namespace

std::byte* allocate_aligned(std::size_t bytes) {
    const std::size_t alignment = bytes >= kHugePage ? kHugePage : kAlignment;
    void* data = nullptr;
    if (posix_memalign(&data, alignment, std::max<std::size_t>(bytes, 1)) != 0) throw std::bad_alloc();
    if (alignment == kHugePage) madvise(data, bytes, MADV_HUGEPAGE);
    return static_cast<std::byte*>(data);
}

void free_aligned(void* memory) noexcept {
    std::free(memory);
}

} // namespace lategrad
