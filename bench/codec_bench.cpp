/// What encoding and decoding cost on one core: bandwidths of the float32 gradient that goes in or comes out, and their
/// ratios to a memcpy of it; top-k selection against torch::topk, the lossless stages against their libraries.
#ifdef LATEGRAD_BENCH_TORCH
#include "lategrad/torch/torch_headers.h"
#endif

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <lz4.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <ctime>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "bench/medians.h"
#include "lategrad/codec/codec.h"
#include "lategrad/codec/lossless.h"
#include "lategrad/codec/shuffle.h"
#include "lategrad/core/buffer.h"
#include "lategrad/core/error.h"
#include "lategrad/core/random.h"

namespace lategrad {
namespace {

constexpr std::size_t kSide = 5000; // of the gradient as one matrix
constexpr std::size_t kElements = kSide * kSide;
constexpr std::size_t kBytes = kElements * sizeof(float);
constexpr std::size_t kBlock = 65536; // of a lossless stage
constexpr int kRepetitions = 9;
constexpr std::array kSpecs = {"fp16",    "bf16",      "bf16+lz4",  "bf16+zstd",  "lz4",
                               "zstd",    "blosc",     "qsgd:8",    "qsgd:4",     "terngrad",
                               "signsgd", "topk:0.01", "dgc:0.001", "randk:0.01", "lowrank:4"};

/// Memory is allocated and touched once, before anything is measured: fresh pages cost more than what is written to
/// them.
struct Arrays {
    BufferPool pool{std::size_t{16} << 30};
    /// Two, in turns, so that residuals stay what they are in a run.
    std::array<Buffer, 2> gradients{normal(1), normal(2)};
    Buffer copy = normal(3);
    Buffer sum = normal(4);

    Buffer normal(std::uint64_t seed) {
        Buffer buffer = pool.lease(kBytes);
        RandomStream random(seed, Purpose::test);
        std::normal_distribution<float> draw(0, 1e-2F);
        std::ranges::generate(buffer.floats(), [&] { return draw(random); });
        return buffer;
    }
};

/// Of the processor: this program has one thread, and what others run meanwhile does not count.
double seconds_of(const auto& work) {
    const std::clock_t begin = std::clock();
    work();
    benchmark::ClobberMemory();
    return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}

/// What else the machine does comes and goes: each repetition measures the baseline right before the work. `prepare` is
/// not measured; all measurements of one subject call it.
void add(const std::string& name, const std::function<void()>& prepare, const std::function<void()>& baseline,
         const std::function<void()>& work) {
    benchmark::RegisterBenchmark(name.c_str(),
                                 [=](benchmark::State& state) {
                                     prepare();
                                     for (auto _ : state) {
                                         const double base = seconds_of(baseline);
                                         const double ours = seconds_of(work);
                                         state.SetIterationTime(ours);
                                         state.counters["base GB/s"] = kBytes * 1e-9 / base;
                                         state.counters["GB/s"] = kBytes * 1e-9 / ours;
                                         state.counters["ratio"] = base / ours;
                                     }
                                 })
        ->UseManualTime()
        ->Iterations(1)
        ->Repetitions(kRepetitions);
}

/// One codec between a worker and a server.
struct Bench {
    Arrays& arrays;
    std::unique_ptr<Codec> codec;
    std::unique_ptr<Encoder> encoder{};
    Buffer payload{};
    std::uint64_t step = 0;

    /// Past the first touch of the encoder's memory and of the payloads'.
    void prepare() {
        if (encoder) return;
        encoder = codec->make_encoder(WorkerId{0}, arrays.pool);
        for (int warm_up = 0; warm_up < 3; ++warm_up) encode();
    }
    void encode() {
        const Buffer& grad = arrays.gradients[step % arrays.gradients.size()];
        payload = encoder->encode(grad, {.step = Step{step}});
        CHECK(payload);
        ++step;
    }
    void decode() {
        const std::array terms{
            EncodedTerm{.payload = {std::as_const(payload).data(), payload.bytes()}, .coefficient = 0.5F}};
        for (std::size_t first = 0; first < kElements; first += codec->chunk()) {
            const std::size_t size = std::min(codec->chunk(), kElements - first);
            codec->weighted_sum(terms, first, arrays.sum.floats().subspan(first, size));
        }
    }
    void validate() const { CHECK(codec->validate({payload.data(), payload.bytes()}) == Reason::none); }
};

void add_codec(const std::string& spec, Arrays& arrays) {
    const auto memcpy_of_gradient = [&] {
        std::memcpy(arrays.copy.data(), std::as_const(arrays.gradients[0]).data(), kBytes);
    };
    // Past the warm-up of dgc, which is measured at its final share.
    const CodecSetup setup{.elements = kElements,
                           .tensors = {{.rows = kSide, .columns = kSide}},
                           .workers = 8,
                           .steps_per_epoch = 0.1,
                           .momentum = 0.9};
    const auto bench = std::make_shared<Bench>(arrays, make_codec(spec, setup));
    const auto prepare = [bench] { bench->prepare(); };
    add(spec + " encode", prepare, memcpy_of_gradient, [bench] { bench->encode(); });
    add(spec + " decode", prepare, memcpy_of_gradient, [bench] { bench->decode(); });
    add(spec + " validate", prepare, memcpy_of_gradient, [bench] { bench->validate(); });
}

/// A lossless stage with its shuffle, and its library alone on blocks that were shuffled before.
struct StageBench {
    std::unique_ptr<Lossless> stage;
    std::function<std::size_t(std::span<const std::byte>, std::span<std::byte>)> compress, decompress;
    std::span<const std::byte> values;
    std::vector<std::byte> shuffled{}, packed{};
    std::vector<std::byte> out = std::vector<std::byte>(kBlock); // decoded blocks stay in cache
    std::vector<std::size_t> sizes{};

    template <class Work>
    void for_blocks(const Work& work) const {
        for (std::size_t at = 0; at < kBytes; at += kBlock) work(at, std::min(kBlock, kBytes - at), at / kBlock);
    }
    void prepare() {
        if (!shuffled.empty()) return;
        for (auto* bytes : {&shuffled, &packed}) bytes->resize(kBytes);
        for_blocks([&](std::size_t at, std::size_t size, std::size_t) {
            shuffle(values.subspan(at, size), sizeof(float), std::span(shuffled).subspan(at, size));
        });
        sizes.resize((kBytes + kBlock - 1) / kBlock);
        library_compress();
        library_decompress();
    }
    void library_compress() {
        for_blocks([&](std::size_t at, std::size_t size, std::size_t block) {
            sizes[block] = compress(std::span(shuffled).subspan(at, size), std::span(packed).subspan(at, size));
            CHECK(sizes[block] > 0 && sizes[block] < size);
        });
    }
    void library_decompress() {
        for_blocks([&](std::size_t at, std::size_t size, std::size_t block) {
            CHECK(decompress(std::span(packed).subspan(at, sizes[block]), std::span(out).first(size)) == size);
        });
    }
    void stage_compress() {
        for_blocks([&](std::size_t at, std::size_t size, std::size_t block) {
            const auto bytes =
                stage->compress(values.subspan(at, size), sizeof(float), std::span(packed).subspan(at, size));
            CHECK(bytes == sizes[block]);
        });
    }
    void stage_decompress() {
        for_blocks([&](std::size_t at, std::size_t size, std::size_t block) {
            const auto bytes = stage->decompress(std::span(packed).subspan(at, sizes[block]), sizeof(float),
                                                 std::span(out).first(size));
            CHECK(bytes == size);
        });
    }
};

void add_stage(const std::string& name, std::shared_ptr<StageBench> bench) {
    const auto prepare = [bench] { bench->prepare(); };
    add(
        name + " compress", prepare, [bench] { bench->library_compress(); }, [bench] { bench->stage_compress(); });
    add(
        name + " decompress", prepare, [bench] { bench->library_decompress(); },
        [bench] { bench->stage_decompress(); });
}

int as_int(std::span<const std::byte> bytes) {
    return static_cast<int>(bytes.size());
}

void add_stages(const Buffer& gradient) {
    const std::span<const std::byte> values(gradient.data(), gradient.bytes());
    const auto chars = [](auto bytes) { return reinterpret_cast<const char*>(bytes.data()); };
    const auto room = [](std::span<std::byte> bytes) { return reinterpret_cast<char*>(bytes.data()); };
    add_stage(
        "lz4 stage",
        std::make_shared<StageBench>(
            make_lossless("lz4"),
            [=](std::span<const std::byte> in, std::span<std::byte> out) {
                return static_cast<std::size_t>(LZ4_compress_default(chars(in), room(out), as_int(in), as_int(out)));
            },
            [=](std::span<const std::byte> in, std::span<std::byte> out) {
                return static_cast<std::size_t>(LZ4_decompress_safe(chars(in), room(out), as_int(in), as_int(out)));
            },
            values));
    const std::shared_ptr<ZSTD_CCtx> compressor(ZSTD_createCCtx(), ZSTD_freeCCtx);
    const std::shared_ptr<ZSTD_DCtx> decompressor(ZSTD_createDCtx(), ZSTD_freeDCtx);
    add_stage("zstd stage",
              std::make_shared<StageBench>(
                  make_lossless("zstd"),
                  [=](std::span<const std::byte> in, std::span<std::byte> out) {
                      std::size_t written = 0; // in two frames, as the stage does it
                      for (const auto part : {in.first(in.size() / 4 * 3), in.subspan(in.size() / 4 * 3)}) {
                          const auto room = out.subspan(written);
                          written += ZSTD_compressCCtx(compressor.get(), room.data(), room.size(), part.data(),
                                                       part.size(), 1);
                      }
                      return written;
                  },
                  [=](std::span<const std::byte> in, std::span<std::byte> out) {
                      return ZSTD_decompressDCtx(decompressor.get(), out.data(), out.size(), in.data(), in.size());
                  },
                  values));
}

constexpr const char* kTopK = "topk:0.01 encode against torch::topk";

#ifdef LATEGRAD_BENCH_TORCH
void add_torch_topk(Arrays& arrays) {
    const auto bench = std::make_shared<Bench>(arrays, make_codec("topk:0.01", {.elements = kElements}));
    const auto selection = [&arrays] {
        at::set_num_threads(1);
        const auto tensor = torch::from_blob(arrays.gradients[0].data(), {static_cast<std::int64_t>(kElements)});
        benchmark::DoNotOptimize(tensor.abs().topk(kElements / 100, -1, true, false));
    };
    add(
        kTopK, [bench] { bench->prepare(); }, selection, [bench] { bench->encode(); });
}
#endif

void print(const Medians& medians) {
    constexpr std::array<const char*, 3> kOf = {"encode", "decode", "validate"};
    fmt::print("{:<10}", "GB/s");
    for (const char* of : kOf) fmt::print(" | {:>8}  to memcpy", of);
    fmt::print("\n");
    for (const std::string spec : kSpecs) {
        fmt::print("{:<10}", spec);
        for (const std::string of : kOf) {
            const std::string name = spec + " " + of;
            if (medians.has(name))
                fmt::print(" | {:>8.2f}  {:>9.2f}", medians.of(name, "GB/s"), medians.of(name, "ratio"));
            else fmt::print(" | {:>8}  {:>9}", "", "");
        }
        fmt::print("\n");
    }
    fmt::print("\n{:<38} | {:>8} | {:>8} | ours to theirs\n", "GB/s", "theirs", "ours");
    for (const std::string name :
         {"lz4 stage compress", "lz4 stage decompress", "zstd stage compress", "zstd stage decompress", kTopK}) {
        if (!medians.has(name)) continue;
        fmt::print("{:<38} | {:>8.2f} | {:>8.2f} | {:.2f}\n", name, medians.of(name, "base GB/s"),
                   medians.of(name, "GB/s"), medians.of(name, "ratio"));
    }
}

} // namespace
} // namespace lategrad

int main(int argc, char** argv) {
    using namespace lategrad;
    benchmark::Initialize(&argc, argv);
    Arrays arrays;
    for (const char* spec : kSpecs) add_codec(spec, arrays);
    add_stages(arrays.gradients[0]);
#ifdef LATEGRAD_BENCH_TORCH
    add_torch_topk(arrays);
#endif
    fmt::print("{} M normal entries, one core; medians of {} repetitions\n", kElements / 1'000'000, kRepetitions);
    Medians medians;
    benchmark::RunSpecifiedBenchmarks(&medians);
    print(medians);
    benchmark::Shutdown();
}
