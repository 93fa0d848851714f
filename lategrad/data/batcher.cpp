#include "lategrad/data/batcher.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "lategrad/core/error.h"
#include "lategrad/core/random.h"

namespace lategrad {

Batcher::Batcher(std::shared_ptr<const Dataset> data, std::shared_ptr<const Parts> parts, std::size_t batch_size,
                 std::uint64_t seed)
    : data_(std::move(data)),
      parts_(std::move(parts)),
      batch_size_(batch_size),
      seed_(seed),
      indices_(batch_size) {
    CHECK(batch_size_ > 0);
}

void Batcher::draw(const DataPosition& begin, Batch& out) {
    CHECK(begin.part < parts_->size() && !(*parts_)[begin.part].empty());
    const std::size_t size = (*parts_)[begin.part].size();
    std::uint64_t position = begin.position; // in the sequence of all epochs
    for (std::size_t filled = 0; filled < batch_size_;) {
        const auto& examples = order(begin.part, position / size);
        const std::size_t offset = position % size;
        const std::size_t count = std::min(batch_size_ - filled, size - offset);
        std::copy_n(examples.begin() + static_cast<std::ptrdiff_t>(offset), count,
                    indices_.begin() + static_cast<std::ptrdiff_t>(filled));
        filled += count;
        position += count;
    }
    data_->gather(indices_, out);
}

const std::vector<std::uint32_t>& Batcher::order(std::uint32_t part, std::uint64_t epoch) {
    Order& order = orders_[part];
    if (epoch != order.epoch) {
        order.examples = (*parts_)[part]; // an epoch's order does not depend on the one before
        RandomStream(seed_, Purpose::data, {part, epoch}).shuffle(std::span(order.examples));
        order.epoch = epoch;
    }
    return order.examples;
}

std::vector<std::uint32_t> batch_shares(std::size_t batch_size, std::span<const std::size_t> part_sizes) {
    const std::size_t workers = part_sizes.size();
    CHECK(workers > 0 && workers <= batch_size);
    const std::size_t total = std::accumulate(part_sizes.begin(), part_sizes.end(), std::size_t{0});
    std::vector<std::uint32_t> shares;
    std::vector<std::size_t> remainders; // of the exact share, in 1/total
    std::size_t given = 0;
    for (const std::size_t size : part_sizes) {
        CHECK(size > 0);
        const std::size_t exact = batch_size * size;
        shares.push_back(static_cast<std::uint32_t>(std::max<std::size_t>(exact / total, 1)));
        remainders.push_back(exact < total ? 0 : exact % total);
        given += shares.back();
    }
    std::vector<std::size_t> order(workers);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return remainders[a] > remainders[b]; });
    for (std::size_t i = 0; given < batch_size; ++i, ++given) ++shares[order[i % workers]];
    // Where tiny parts were given one example each, the largest give them up.
    for (; given > batch_size; --given) --*std::max_element(shares.begin(), shares.end());
    return shares;
}

} // namespace lategrad
