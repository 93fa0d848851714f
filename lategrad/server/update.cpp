#include "lategrad/server/update.h"

#include <algorithm>
#include <array>
#include <functional>
#include <utility>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

/// What a thread takes at a time, at least.
constexpr std::size_t kBlock = 16384;

} // namespace

FusedUpdate::FusedUpdate(const Codec& codec, Optimizer& optimizer, std::size_t trainable, std::size_t size)
    : codec_(codec),
      optimizer_(optimizer),
      trainable_(trainable),
      size_(size),
      block_(std::max(kBlock / codec.chunk(), std::size_t{1}) * codec.chunk()),
      update_block_([this](std::size_t block) { update_block(block); }) {
    CHECK(trainable <= size && codec.chunk() <= Codec::kChunkMax);
}

void FusedUpdate::run(ThreadPool& pool) {
    CHECK(!terms.empty());
    CHECK(in.floats().size() == size_ && out.floats().size() == size_);
    encoded_.clear();
    tails_.clear();
    for (const UpdateTerm& term : terms) {
        const std::span<const std::byte> payload(term.payload.data(), term.payload.bytes());
        encoded_.push_back({payload, term.coefficient});
        if (term.gives_buffers) tails_.push_back(codec_.tail(payload));
    }
    optimizer_.begin_update(learning_rate);
    pool.run((trainable_ + block_ - 1) / block_, update_block_);
    average_buffers();
}

void FusedUpdate::update_block(std::size_t block) {
    const auto old_params = std::as_const(in).floats();
    const auto new_params = out.floats();
    alignas(64) std::array<float, Codec::kChunkMax> scratch;
    const std::size_t end = std::min((block + 1) * block_, trainable_);
    for (std::size_t first = block * block_; first < end; first += codec_.chunk()) {
        const std::size_t size = std::min(codec_.chunk(), end - first);
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
    for (std::size_t i = 0; i < tail.size(); ++i) {
        double sum = 0;
        for (const std::span<const float> values : tails_) sum += static_cast<double>(values[i]);
        tail[i] = static_cast<float>(sum / static_cast<double>(tails_.size()));
    }
}

} // namespace lategrad
