#include "lategrad/server/update.h"

#include <algorithm>
#include <array>
#include <functional>
#include <utility>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

/// The running sum of one chunk stays in the first-level cache while the payloads pass by.
constexpr std::size_t kChunk = 4096;
/// What a thread takes at a time.
constexpr std::size_t kBlock = 4 * kChunk;

} // namespace

FusedUpdate::FusedUpdate(const Codec& codec, Optimizer& optimizer, std::size_t trainable, std::size_t size)
    : codec_(codec),
      optimizer_(optimizer),
      trainable_(trainable),
      size_(size),
      update_block_([this](std::size_t block) { update_block(block); }) {
    CHECK(trainable <= size);
}

void FusedUpdate::run(ThreadPool& pool) {
    CHECK(!terms.empty());
    CHECK(in.floats().size() == size_ && out.floats().size() == size_);
    encoded_.clear();
    tails_.clear();
    for (const UpdateTerm& term : terms) {
        const std::span<const std::byte> payload(term.payload.data(), term.payload.bytes());
        encoded_.push_back({payload, term.coefficient});
        if (term.gives_buffers) tails_.push_back({payload, 1});
    }
    optimizer_.begin_update(learning_rate);
    pool.run((trainable_ + kBlock - 1) / kBlock, update_block_);
    average_buffers();
}

void FusedUpdate::update_block(std::size_t block) {
    const auto old_params = std::as_const(in).floats();
    const auto new_params = out.floats();
    alignas(64) std::array<float, kChunk> scratch;
    const std::size_t end = std::min((block + 1) * kBlock, trainable_);
    for (std::size_t first = block * kBlock; first < end; first += kChunk) {
        const std::size_t size = std::min(kChunk, end - first);
        const std::span<float> sum(scratch.data(), size);
        codec_.weighted_sum(encoded_, first, sum);
        optimizer_.apply(first, old_params.subspan(first, size), new_params.subspan(first, size), sum);
    }
}

void FusedUpdate::average_buffers() {
    const auto old_tail = std::as_const(in).floats().subspan(trainable_);
    const auto tail = out.floats().subspan(trainable_);
    if (tails_.empty()) {
        if (tail.data() != old_tail.data()) std::ranges::copy(old_tail, tail.begin());
        return;
    }
    // In double, so that the mean of equal values is that value: a buffer that nobody changes stays as it is.
    std::array<float, kChunk> values;
    std::array<double, kChunk> sums;
    for (std::size_t first = 0; first < tail.size(); first += kChunk) {
        const auto chunk = tail.subspan(first, std::min(kChunk, tail.size() - first));
        const std::span<float> decoded(values.data(), chunk.size());
        sums.fill(0);
        for (const EncodedTerm& term : tails_) {
            codec_.weighted_sum({&term, 1}, trainable_ + first, decoded);
            std::transform(decoded.begin(), decoded.end(), sums.begin(), sums.begin(), std::plus<>());
        }
        std::transform(sums.begin(), sums.begin() + static_cast<std::ptrdiff_t>(chunk.size()), chunk.begin(),
                       [&](double sum) { return static_cast<float>(sum / static_cast<double>(tails_.size())); });
    }
}

} // namespace lategrad
