/// Memory that is passed over again and again.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace lategrad {

/// Aligned to 64 bytes, and from 2 MiB on in huge pages: without them, page-table walks cost a fused update of 25 M
/// parameters a tenth of its speed. Throws std::bad_alloc.
std::byte* allocate_aligned(std::size_t bytes);
void free_aligned(void* memory) noexcept;

template <class T>
struct AlignedAllocator {
    using value_type = T;

    AlignedAllocator() = default;
    template <class U>
    AlignedAllocator(const AlignedAllocator<U>& /*other*/) {}

    T* allocate(std::size_t count) { return reinterpret_cast<T*>(allocate_aligned(count * sizeof(T))); }
    void deallocate(T* memory, std::size_t) noexcept { free_aligned(memory); }

    friend bool operator==(const AlignedAllocator&, const AlignedAllocator&) { return true; }
};

template <class T>
using LargeVector = std::vector<T, AlignedAllocator<T>>;

} // namespace lategrad
