#include "lategrad/codec/lossless.h"

#include <blosc.h>
#include <lz4.h>
#include <zstd.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "lategrad/codec/shuffle.h"
#include "lategrad/core/bytes.h"
#include "lategrad/core/error.h"
#include "lategrad/core/large_vector.h"
#include "lategrad/core/parse.h"

namespace lategrad {
namespace {

std::optional<std::size_t> none_if(bool failed, std::size_t bytes) {
    return failed ? std::nullopt : std::optional(bytes);
}

/// This thread's room for a shuffled chunk.
std::span<std::byte> shuffled_room(std::size_t bytes) {
    static thread_local LargeVector<std::byte> room;
    if (room.size() < bytes) room.resize(bytes);
    return std::span(room).first(bytes);
}

/// A compressor behind our own byte shuffle.
class Shuffled : public Lossless {
  public:
    std::optional<std::size_t> compress(std::span<const std::byte> in, std::size_t word,
                                        std::span<std::byte> out) const final {
        if (word == 1) return squeeze(in, 1, out);
        const auto shuffled = shuffled_room(in.size());
        shuffle(in, word, shuffled);
        return squeeze(shuffled, word, out);
    }

    std::optional<std::size_t> decompress(std::span<const std::byte> in, std::size_t word,
                                          std::span<std::byte> out) const final {
        if (word == 1) return expand(in, out);
        const auto shuffled = shuffled_room(out.size());
        const auto bytes = expand(in, shuffled);
        if (bytes) unshuffle(shuffled.first(*bytes), word, out.first(*bytes));
        return bytes;
    }

  private:
    /// `in` is so many planes, one after the other: the bytes of all values with the same place in them.
    virtual std::optional<std::size_t> squeeze(std::span<const std::byte> in, std::size_t planes,
                                               std::span<std::byte> out) const = 0;
    virtual std::optional<std::size_t> expand(std::span<const std::byte> in, std::span<std::byte> out) const = 0;
};

class Lz4 final : public Shuffled {
    std::optional<std::size_t> squeeze(std::span<const std::byte> in, std::size_t,
                                       std::span<std::byte> out) const override {
        const int bytes =
            LZ4_compress_default(reinterpret_cast<const char*>(in.data()), reinterpret_cast<char*>(out.data()),
                                 static_cast<int>(in.size()), static_cast<int>(out.size()));
        return none_if(bytes <= 0 || static_cast<std::size_t>(bytes) >= in.size(), static_cast<std::size_t>(bytes));
    }
    std::optional<std::size_t> expand(std::span<const std::byte> in, std::span<std::byte> out) const override {
        const int bytes =
            LZ4_decompress_safe(reinterpret_cast<const char*>(in.data()), reinterpret_cast<char*>(out.data()),
                                static_cast<int>(in.size()), static_cast<int>(out.size()));
        return none_if(bytes < 0, static_cast<std::size_t>(bytes));
    }
};

class Zstd final : public Shuffled {
  public:
    explicit Zstd(int level) : level_(level) {}

  private:
    /// One of each per thread: a codec serves all threads, and making one costs more than a chunk.
    static ZSTD_CCtx* compressor() {
        static thread_local const std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(),
                                                                                               &ZSTD_freeCCtx);
        if (!context) throw std::bad_alloc();
        return context.get();
    }
    static ZSTD_DCtx* decompressor() {
        static thread_local const std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(),
                                                                                               &ZSTD_freeDCtx);
        if (!context) throw std::bad_alloc();
        return context.get();
    }

    /// Two frames, and so two Huffman codes: one for the plane of signs and exponents, which comes last, and one for
    /// those before it.
    std::optional<std::size_t> squeeze(std::span<const std::byte> in, std::size_t planes,
                                       std::span<std::byte> out) const override {
        const std::size_t mantissas = in.size() / planes * (planes - 1);
        std::size_t written = 0;
        for (const auto part : {in.first(mantissas), in.subspan(mantissas)}) {
            if (part.empty()) continue;
            const auto room = out.subspan(written);
            const std::size_t bytes =
                ZSTD_compressCCtx(compressor(), room.data(), room.size(), part.data(), part.size(), level_);
            if (ZSTD_isError(bytes) != 0) return std::nullopt;
            written += bytes;
        }
        return none_if(written >= in.size(), written);
    }
    std::optional<std::size_t> expand(std::span<const std::byte> in, std::span<std::byte> out) const override {
        if (!ours(in)) return std::nullopt;
        const std::size_t bytes = ZSTD_decompressDCtx(decompressor(), out.data(), out.size(), in.data(), in.size());
        return none_if(ZSTD_isError(bytes) != 0, bytes);
    }

    /// A frame or two of the format's final version. The library also takes frames of former ones, and allocates at
    /// each, and any number of frames to be skipped.
    static bool ours(std::span<const std::byte> in) {
        constexpr int kFramesMax = 2;
        int frames = 0;
        while (!in.empty() && frames++ < kFramesMax) {
            if (in.size() < sizeof(std::uint32_t) || load<std::uint32_t>(in) != ZSTD_MAGICNUMBER) return false;
            const std::size_t bytes = ZSTD_findFrameCompressedSize(in.data(), in.size());
            if (ZSTD_isError(bytes) != 0) return false;
            in = in.subspan(bytes);
        }
        return frames > 0 && in.empty();
    }

    int level_;
};

/// c-blosc, with its own byte shuffle and LZ4 inside.
class Blosc final : public Lossless {
    static constexpr int kLevel = 5;

    std::optional<std::size_t> compress(std::span<const std::byte> in, std::size_t word,
                                        std::span<std::byte> out) const override {
        const int bytes = blosc_compress_ctx(kLevel, word == 1 ? BLOSC_NOSHUFFLE : BLOSC_SHUFFLE, word, in.size(),
                                             in.data(), out.data(), out.size(), BLOSC_LZ4_COMPNAME, 0, 1);
        return none_if(bytes <= 0 || static_cast<std::size_t>(bytes) >= in.size(), static_cast<std::size_t>(bytes));
    }
    std::optional<std::size_t> decompress(std::span<const std::byte> in, std::size_t,
                                          std::span<std::byte> out) const override {
        std::size_t bytes = 0;
        if (blosc_cbuffer_validate(in.data(), in.size(), &bytes) != 0 || bytes > out.size()) return std::nullopt;
        const int got = blosc_decompress_ctx(in.data(), out.data(), out.size(), 1);
        return none_if(got < 0 || static_cast<std::size_t>(got) != bytes, bytes);
    }
};

} // namespace

std::unique_ptr<Lossless> make_lossless(std::string_view spec) {
    if (spec == "lz4") return std::make_unique<Lz4>();
    if (spec == "blosc") return std::make_unique<Blosc>();
    if (spec == "zstd") return std::make_unique<Zstd>(1);
    if (!spec.starts_with("zstd:")) return nullptr;
    const auto level = parse_number<int>(spec.substr(5));
    if (!level || *level < ZSTD_minCLevel() || *level > ZSTD_maxCLevel() || *level == 0) {
        throw InputError(fmt::format("zstd:LEVEL with LEVEL from 1 to {}, or below 0 to go faster", ZSTD_maxCLevel()));
    }
    return std::make_unique<Zstd>(*level);
}

} // namespace lategrad
