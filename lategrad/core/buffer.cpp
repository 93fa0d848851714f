#include "lategrad/core/buffer.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>

#include "lategrad/core/large_vector.h"

namespace lategrad {

struct Buffer::Block {
    std::atomic<std::uint32_t> holders{1};
    std::byte* data = nullptr;
    std::size_t capacity = 0;
    BufferPool::State* pool = nullptr;
    Block* next_idle = nullptr;
};

struct BufferPool::State {
    mutable std::mutex mutex;
    Memory memory = Memory::real;
    std::size_t bytes_max = 0;
    std::size_t bytes_allocated = 0;
    std::size_t bytes_leased = 0;  // capacity of those that are out
    std::size_t leased = 0;        // blocks that are out
    bool closed = false;           // the pool is gone: returned blocks are freed, and with the last of them this
    Buffer::Block* idle = nullptr; // the first of a list

    void push_idle(Buffer::Block* block) { block->next_idle = std::exchange(idle, block); }
    // The smallest idle block that fits and is no more than twice as large, out of the list, or null. Pools hold a
    // handful of blocks, nearly always of one size.
    Buffer::Block* take_idle(std::size_t bytes) {
        Buffer::Block** best = nullptr;
        for (Buffer::Block** at = &idle; *at; at = &(*at)->next_idle) {
            const std::size_t capacity = (*at)->capacity;
            if (capacity >= bytes && capacity / 2 <= bytes && (!best || capacity < (*best)->capacity)) best = at;
        }
        if (!best) return nullptr;
        Buffer::Block* const block = *best;
        *best = block->next_idle;
        return block;
    }
    Buffer::Block* take_idle_of(std::size_t capacity) {
        for (Buffer::Block** at = &idle; *at; at = &(*at)->next_idle) {
            if ((*at)->capacity == capacity) return std::exchange(*at, (*at)->next_idle);
        }
        return nullptr;
    }
    std::size_t room_beside(std::size_t bytes) const { return bytes < bytes_max ? bytes_max - bytes : 0; }
    // Neither leased nor idle yet.
    Buffer::Block* allocate(std::size_t bytes) {
        auto fresh = std::make_unique<Buffer::Block>();
        if (memory == Memory::real) fresh->data = allocate_aligned(bytes);
        fresh->capacity = bytes;
        fresh->pool = this;
        bytes_allocated += bytes;
        return fresh.release();
    }
    Buffer lend(Buffer::Block* block, std::size_t bytes) {
        block->holders.store(1, std::memory_order_relaxed);
        ++leased;
        bytes_leased += block->capacity;
        return Buffer(block, bytes);
    }
    void free_idle() {
        Buffer::Block* const block = idle;
        idle = block->next_idle;
        free(block);
    }
    void free(Buffer::Block* block) {
        bytes_allocated -= block->capacity;
        free_aligned(block->data);
        delete block;
    }

    static void take_back(State* state, Buffer::Block* block) {
        std::unique_lock lock(state->mutex);
        --state->leased;
        state->bytes_leased -= block->capacity;
        if (!state->closed) {
            state->push_idle(block);
            return;
        }
        state->free(block);
        const bool last = state->leased == 0;
        lock.unlock();
        if (last) delete state;
    }
};

Buffer::Buffer(const Buffer& other) noexcept : block_(other.block_), bytes_(other.bytes_) {
    if (block_) block_->holders.fetch_add(1, std::memory_order_relaxed);
}

Buffer& Buffer::operator=(Buffer other) noexcept {
    std::swap(block_, other.block_);
    std::swap(bytes_, other.bytes_);
    return *this;
}

void Buffer::reset() noexcept {
    if (block_ && block_->holders.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        BufferPool::State::take_back(block_->pool, block_);
    }
    forget();
}

std::byte* Buffer::data() {
    return block_ ? block_->data : nullptr;
}

const std::byte* Buffer::data() const {
    return block_ ? block_->data : nullptr;
}

std::size_t Buffer::capacity() const {
    return block_ ? block_->capacity : 0;
}

bool Buffer::unique() const {
    return block_ && block_->holders.load(std::memory_order_acquire) == 1;
}

BufferPool::BufferPool(std::size_t bytes_max, Memory memory) : state_(new State) {
    state_->memory = memory;
    state_->bytes_max = bytes_max;
}

BufferPool::~BufferPool() {
    std::unique_lock lock(state_->mutex);
    state_->closed = true;
    while (state_->idle) state_->free_idle();
    const bool last = state_->leased == 0;
    lock.unlock();
    if (last) delete state_;
}

Buffer BufferPool::try_lease(std::size_t bytes) {
    const std::lock_guard lock(state_->mutex);
    Buffer::Block* block = state_->take_idle(bytes);
    if (!block) {
        // Idle blocks of other sizes make room before the bound refuses.
        while (state_->idle && bytes > state_->room_beside(state_->bytes_allocated)) state_->free_idle();
        if (bytes > state_->room_beside(state_->bytes_allocated)) return {};
        block = state_->allocate(bytes);
    }
    return state_->lend(block, bytes);
}

Buffer BufferPool::lease(std::size_t bytes) {
    Buffer buffer = try_lease(bytes);
    CHECK(buffer && "the pool's bound holds every lease its owner makes");
    return buffer;
}

bool BufferPool::has_room(std::size_t bytes) const {
    const std::lock_guard lock(state_->mutex);
    return bytes <= state_->room_beside(state_->bytes_leased);
}

std::size_t BufferPool::bytes_allocated() const {
    const std::lock_guard lock(state_->mutex);
    return state_->bytes_allocated;
}

std::size_t BufferPool::bytes_leased() const {
    const std::lock_guard lock(state_->mutex);
    return state_->bytes_leased;
}

std::size_t BufferPool::bytes_max() const {
    return state_->bytes_max;
}

BufferPool::Memory BufferPool::memory() const {
    return state_->memory;
}

const void* BufferPool::identity_of_pool(const Buffer& buffer) {
    return buffer ? buffer.block_->pool : nullptr;
}

std::vector<std::size_t> BufferPool::idle() const {
    const std::lock_guard lock(state_->mutex);
    std::vector<std::size_t> capacities;
    for (const Buffer::Block* block = state_->idle; block; block = block->next_idle) {
        capacities.push_back(block->capacity);
    }
    return capacities;
}

Buffer BufferPool::lease_again(std::size_t bytes, std::size_t capacity) {
    CHECK(bytes <= capacity);
    const std::lock_guard lock(state_->mutex);
    Buffer::Block* block = state_->take_idle_of(capacity);
    if (!block) block = state_->allocate(capacity);
    return state_->lend(block, bytes);
}

bool BufferPool::set_idle(std::span<const std::size_t> capacities) {
    const std::lock_guard lock(state_->mutex);
    while (state_->idle) state_->free_idle();
    bool all = true;
    for (auto capacity = capacities.rbegin(); capacity != capacities.rend(); ++capacity) {
        const bool fits = *capacity <= state_->room_beside(state_->bytes_allocated);
        if (fits) state_->push_idle(state_->allocate(*capacity));
        all = all && fits;
    }
    return all;
}

} // namespace lategrad
