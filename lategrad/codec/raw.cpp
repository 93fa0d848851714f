#include "lategrad/codec/raw.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "lategrad/codec/finite.h"

// The kernels below are compiled once for each instruction set; the best one for the machine is chosen at run time.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lategrad/codec/raw.cpp"
#include <hwy/foreach_target.h>
//
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace lategrad::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

const float* floats(const EncodedTerm& term, std::size_t first) {
    return reinterpret_cast<const float*>(term.payload.data()) + first;
}

/// Terms whose payloads are read side by side. Measured: 1 is a third slower than 4, 8 no faster.
constexpr std::size_t kSideBySide = 4;

/// Up to kSideBySide terms: the first one or the running sum, then the others. Mul, then Add, never MulAdd: two
/// roundings on every instruction set.
template <std::size_t... kOther>
void sum_terms(std::span<const EncodedTerm> terms, std::size_t first, bool continues, std::span<float> sum,
               std::index_sequence<kOther...>) {
    const float* const values0 = floats(terms[0], first);
    const float coefficient0 = terms[0].coefficient;
    const std::array<const float*, sizeof...(kOther)> values{floats(terms[kOther + 1], first)...};
    const std::array<float, sizeof...(kOther)> coefficients{terms[kOther + 1].coefficient...};
    const auto at = [&](auto d, std::size_t i) HWY_ATTR {
        auto total = hn::Mul(hn::Set(d, coefficient0), hn::LoadU(d, values0 + i));
        if (continues) total = hn::Add(hn::LoadU(d, &sum[i]), total);
        ((total = hn::Add(total, hn::Mul(hn::Set(d, coefficients[kOther]), hn::LoadU(d, values[kOther] + i)))), ...);
        hn::StoreU(total, d, &sum[i]);
    };
    const hn::ScalableTag<float> d;
    std::size_t i = 0;
    for (; i + hn::Lanes(d) <= sum.size(); i += hn::Lanes(d)) at(d, i);
    for (; i < sum.size(); ++i) at(hn::CappedTag<float, 1>(), i);
}

void weighted_sum(std::span<const EncodedTerm> terms, std::size_t first, std::span<float> sum) {
    for (std::size_t i = 0; i < terms.size(); i += kSideBySide) {
        const auto group = terms.subspan(i, std::min(kSideBySide, terms.size() - i));
        switch (group.size()) {
        case 1: sum_terms(group, first, i > 0, sum, std::make_index_sequence<0>()); break;
        case 2: sum_terms(group, first, i > 0, sum, std::make_index_sequence<1>()); break;
        case 3: sum_terms(group, first, i > 0, sum, std::make_index_sequence<2>()); break;
        case 4: sum_terms(group, first, i > 0, sum, std::make_index_sequence<3>()); break;
        }
    }
}

} // namespace
} // namespace lategrad::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lategrad {

HWY_EXPORT(weighted_sum);

static_assert(std::endian::native == std::endian::little, "payloads travel as they lie in memory");

namespace {

class RawEncoder final : public Encoder {
  public:
    Buffer encode(const Buffer& grad, const EncodeStep&) override { return grad; }
};

} // namespace

std::unique_ptr<Encoder> RawCodec::make_encoder(WorkerId, BufferPool&) const {
    return std::make_unique<RawEncoder>();
}

Reason RawCodec::validate(std::span<const std::byte> payload) const {
    if (payload.size() != payload_bytes_max()) return Reason::malformed;
    return all_finite(payload) ? Reason::none : Reason::not_finite;
}

void RawCodec::weighted_sum(std::span<const EncodedTerm> terms, std::size_t first, std::span<float> sum) const {
    HWY_DYNAMIC_DISPATCH(weighted_sum)(terms, first, sum);
}

std::span<const float> RawCodec::tail(std::span<const std::byte> payload) const {
    return {reinterpret_cast<const float*>(payload.data()) + elements_, tail_};
}

} // namespace lategrad
#endif
