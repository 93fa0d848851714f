#include "lategrad/codec/select.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>

#include "lategrad/codec/finite.h"
#include "lategrad/core/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lategrad/codec/select.cpp"
#include <hwy/foreach_target.h>
//
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace lategrad::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

/// Entries [begin, end): the sums, and where they are above `above` (magnitude as bits). Returns the largest magnitude;
/// `count` goes on. Places and magnitudes have room for end − begin more.
std::int32_t join_block(const Joining& joining, std::span<float> residual, std::size_t begin, std::size_t end,
                        std::int32_t above, std::uint32_t* places, std::int32_t* magnitudes, std::size_t& count) {
    std::int32_t largest = 0;
    const auto run = [&](auto df, std::size_t from, std::size_t to) HWY_ATTR {
        const hn::RebindToSigned<decltype(df)> d;
        const auto threshold = hn::Set(d, above);
        auto max = hn::Zero(d);
        for (std::size_t i = from; i + hn::Lanes(d) <= to; i += hn::Lanes(d)) {
            auto joins = hn::Mul(hn::Set(df, joining.grad_scale), hn::LoadU(df, joining.grad.data() + i));
            if (!joining.velocity.empty()) {
                const auto old = hn::LoadU(df, joining.velocity.data() + i);
                joins = hn::Add(hn::Mul(hn::Set(df, joining.momentum), old), joins);
                hn::StoreU(joins, df, joining.velocity.data() + i);
            }
            const auto kept = hn::Mul(hn::Set(df, joining.residual_scale), hn::LoadU(df, residual.data() + i));
            const auto sum = hn::Add(joins, kept);
            hn::StoreU(sum, df, residual.data() + i);
            const auto magnitude = hn::And(hn::BitCast(d, sum), hn::Set(d, 0x7fffffff));
            max = hn::Max(max, magnitude);
            // Bit by bit, because few are: GCC makes CompressStore copy its table to the stack at every call.
            std::uint64_t is_above = 0;
            hn::StoreMaskBits(d, hn::Gt(magnitude, threshold), reinterpret_cast<std::uint8_t*>(&is_above));
            for (; is_above != 0; is_above &= is_above - 1) {
                const std::size_t place = i + static_cast<std::size_t>(std::countr_zero(is_above));
                magnitudes[count] = std::bit_cast<std::int32_t>(residual[place]) & 0x7fffffff;
                places[count++] = static_cast<std::uint32_t>(place);
            }
        }
        largest = std::max(largest, hn::GetLane(hn::MaxOfLanes(d, max)));
    };
    const hn::ScalableTag<float> all;
    const std::size_t whole = begin + (end - begin) / hn::Lanes(all) * hn::Lanes(all);
    run(all, begin, whole);
    run(hn::CappedTag<float, 1>(), whole, end);
    return largest;
}

} // namespace
} // namespace lategrad::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lategrad {

HWY_EXPORT(join_block);

namespace {

constexpr std::int32_t kInfinity = 0x7f800000;
constexpr std::size_t kBlock = 4096;
/// Runs of neighbours, which share a cache line, spread evenly.
constexpr std::size_t kSampled = 65536;
constexpr std::size_t kRun = 16;

std::int32_t magnitude_of(float value) {
    return std::bit_cast<std::int32_t>(value) & 0x7fffffff;
}

void copy_block(std::span<const float> values, std::size_t begin, std::size_t end, std::vector<float>& block) {
    block.resize(kBlock);
    std::memcpy(block.data(), &values[begin], (end - begin) * sizeof(float)); // GCC 12 makes a loop of ranges::copy
}

} // namespace

/// A magnitude that somewhat more than k sums are above of, or 0, which all are above of that can be sent.
std::int32_t Selector::guess(const Joining& joining, std::span<const float> residual, std::size_t k) {
    const std::size_t size = residual.size();
    if (size <= kSampled) return 0; // small enough to look at all of them
    const std::size_t runs = kSampled / kRun;
    const std::size_t stride = size / runs; // at least kRun
    sample_.clear();
    for (std::size_t run = 0; run < runs; ++run) {
        for (std::size_t i = run * stride; i < run * stride + kRun; ++i) {
            float joins = joining.grad_scale * joining.grad[i];
            if (!joining.velocity.empty()) joins += joining.momentum * joining.velocity[i];
            sample_.push_back(magnitude_of(joins + joining.residual_scale * residual[i]));
        }
    }
    // As many of the sample as k is of all, and three deviations more, so that a second pass is rare.
    const double expected = static_cast<double>(k) / static_cast<double>(size) * static_cast<double>(sample_.size());
    const double wanted = 1.05 * expected + 3 * std::sqrt(expected * kRun) + 16;
    if (wanted >= static_cast<double>(sample_.size())) return 0;
    const auto at = sample_.begin() + static_cast<std::ptrdiff_t>(wanted);
    std::nth_element(sample_.begin(), at, sample_.end(), std::greater<>());
    return std::max(*at - 1, 0);
}

bool Selector::join(const Joining& joining, std::span<float> residual, std::size_t k) {
    CHECK(k > 0 && k <= residual.size() && joining.grad.size() == residual.size());
    std::int32_t above = guess(joining, residual, k);
    Joining pass = joining;
    for (;;) {
        count_ = 0;
        for (std::size_t begin = 0; begin < residual.size(); begin += kBlock) {
            const std::size_t end = std::min(begin + kBlock, residual.size());
            if (places_.size() < count_ + kBlock) {
                places_.resize(2 * count_ + kBlock);
                magnitudes_.resize(places_.size());
            }
            copy_block(residual, begin, end, residual_before_);
            if (!pass.velocity.empty()) copy_block(pass.velocity, begin, end, velocity_before_);
            const std::int32_t largest = HWY_DYNAMIC_DISPATCH(join_block)(pass, residual, begin, end, above,
                                                                          places_.data(), magnitudes_.data(), count_);
            if (largest >= kInfinity) {
                undo(pass, residual, begin, end);
                return false;
            }
        }
        if (count_ >= k || above == 0) break;
        // The sample was not like the rest. The sums are done: once more over them, for all that are not zero.
        pass = {.grad = residual, .grad_scale = 0, .residual_scale = 1, .momentum = 0, .velocity = {}};
        above = 0;
    }
    pick(std::min(k, count_));
    return true;
}

/// Of what was joined up to `end`, where the last block begins at `begin`.
void Selector::undo(const Joining& joined, std::span<float> residual, std::size_t begin, std::size_t end) const {
    std::copy_n(residual_before_.begin(), end - begin, residual.begin() + static_cast<std::ptrdiff_t>(begin));
    if (!joined.velocity.empty()) {
        std::copy_n(velocity_before_.begin(), end - begin,
                    joined.velocity.begin() + static_cast<std::ptrdiff_t>(begin));
    }
    for (std::size_t i = 0; i < begin; ++i) {
        const float scaled = joined.grad_scale * joined.grad[i];
        residual[i] =
            unscaled(residual[i] - (joined.velocity.empty() ? scaled : joined.velocity[i]), joined.residual_scale);
        if (!joined.velocity.empty()) joined.velocity[i] = unscaled(joined.velocity[i] - scaled, joined.momentum);
    }
}

/// Of what was noted, the k largest.
void Selector::pick(std::size_t k) {
    if (k == 0) return;
    sorted_.assign(magnitudes_.begin(), magnitudes_.begin() + static_cast<std::ptrdiff_t>(count_));
    const auto kth = sorted_.begin() + static_cast<std::ptrdiff_t>(k - 1);
    std::nth_element(sorted_.begin(), kth, sorted_.end(), std::greater<>());
    const std::int32_t least = *kth;
    std::size_t equal =
        k - static_cast<std::size_t>(std::count_if(sorted_.begin(), kth, [&](auto m) { return m > least; }));
    std::size_t taken = 0;
    for (std::size_t i = 0; i < count_; ++i) {
        if (magnitudes_[i] < least) continue;
        if (magnitudes_[i] == least && equal-- == 0) {
            equal = 0;
            continue;
        }
        places_[taken++] = places_[i];
    }
    count_ = taken;
}

} // namespace lategrad
#endif
