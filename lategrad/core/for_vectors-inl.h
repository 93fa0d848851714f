/// Included by a kernel file once for each instruction set.
#if defined(LATEGRAD_CORE_FOR_VECTORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LATEGRAD_CORE_FOR_VECTORS_INL_H_
#undef LATEGRAD_CORE_FOR_VECTORS_INL_H_
#else
#define LATEGRAD_CORE_FOR_VECTORS_INL_H_
#endif

#include <hwy/highway.h>

#include <cstddef>

HWY_BEFORE_NAMESPACE();
namespace lategrad::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

/// Calls `body(d, i)` for vectors of floats from i = 0 on, then for single floats. The same formula serves both.
template <class Body>
void for_vectors(std::size_t size, const Body& body) {
    const hn::ScalableTag<float> d;
    std::size_t i = 0;
    for (; i + hn::Lanes(d) <= size; i += hn::Lanes(d)) body(d, i);
    for (; i < size; ++i) body(hn::CappedTag<float, 1>(), i);
}

} // namespace
} // namespace lategrad::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
