/// Memory that travels: leased from a pool, shared by count, returned when the last holder lets go.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lategrad/core/error.h"

namespace lategrad {

class BufferPool;

/// A handle to leased memory, aligned to 64 bytes at least. Copies share the memory. The handle itself belongs to one
/// thread; different handles to the same memory may live on different threads.
class Buffer {
  public:
    Buffer() = default;
    Buffer(const Buffer& other) noexcept;
    Buffer(Buffer&& other) noexcept : block_(other.block_), bytes_(other.bytes_) { other.forget(); }
    Buffer& operator=(Buffer other) noexcept;
    ~Buffer() { reset(); }

    void reset() noexcept;
    explicit operator bool() const { return block_ != nullptr; }
    std::size_t bytes() const { return bytes_; }
    std::byte* data();
    const std::byte* data() const;
    std::span<float> floats() { return {reinterpret_cast<float*>(data()), bytes_ / sizeof(float)}; }
    std::span<const float> floats() const { return {reinterpret_cast<const float*>(data()), bytes_ / sizeof(float)}; }
    /// True when nobody else holds this memory, so that it may be written.
    bool unique() const;
    /// What the lease takes of its pool's bound: bytes(), or more where a longer block was idle.
    std::size_t capacity() const;
    /// The same for all handles to this memory, and for no others while one of them lives; null for an empty handle.
    const void* identity() const { return block_; }

  private:
    friend class BufferPool;
    struct Block;
    Buffer(Block* block, std::size_t bytes) : block_(block), bytes_(bytes) {}
    void forget() {
        block_ = nullptr;
        bytes_ = 0;
    }

    Block* block_ = nullptr;
    std::size_t bytes_ = 0;
};

/// Leases buffers and takes them back for the next lease, so that a steady state allocates nothing. Thread-safe.
/// Buffers may outlive their pool.
class BufferPool {
  public:
    /// Nominal buffers have a size and nothing behind it: for a simulation that asks for the timing alone.
    enum class Memory { real, nominal };

    /// At most `bytes_max` bytes exist at any time, leased and idle together. REQUIRES: nobody touches what is in a
    /// nominal buffer.
    explicit BufferPool(std::size_t bytes_max, Memory memory = Memory::real);
    ~BufferPool();
    BufferPool(const BufferPool&) = delete;
    BufferPool& operator=(const BufferPool&) = delete;

    /// A buffer of `bytes` bytes with unspecified content; an empty handle where the pool's bound would be exceeded.
    Buffer try_lease(std::size_t bytes);
    /// The same; exceeding the bound is a bug of the caller. REQUIRES: within the bound.
    Buffer lease(std::size_t bytes);
    /// Whether a lease of that many bytes would succeed now. Only leases change that for the worse.
    bool has_room(std::size_t bytes) const;
    /// Bytes that exist now, leased and idle together.
    std::size_t bytes_allocated() const;
    /// Of these, the capacity of what is out.
    std::size_t bytes_leased() const;
    std::size_t bytes_max() const;
    Memory memory() const;

    // For checkpoints (core/archive.h): what a later lease gets depends on which blocks are out and which are idle.

    /// The pool that a buffer came from, as identity() has it; it may be gone.
    static const void* identity_of_pool(const Buffer& buffer);
    const void* identity() const { return state_; }
    /// The capacities of the idle blocks, in the order in which the pool looks at them.
    std::vector<std::size_t> idle() const;
    /// A lease of a block of exactly this capacity. Does not look at the bound, because what it replaces may still be
    /// out; nor does the pool lend anything else while that exceeds it. REQUIRES: bytes <= capacity.
    Buffer lease_again(std::size_t bytes, std::size_t capacity);
    /// Makes these the idle blocks, as far as the bound allows; true where it allows all.
    bool set_idle(std::span<const std::size_t> capacities);

    struct State;

  private:
    State* state_; // its own last holder: the pool, or the last buffer that is out when the pool is gone
};

} // namespace lategrad
