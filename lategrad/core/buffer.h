/// Memory that travels: leased from a pool, shared by count, returned when the last holder lets go.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

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

    struct State;

  private:
    State* state_; // its own last holder: the pool, or the last buffer that is out when the pool is gone
};

} // namespace lategrad
