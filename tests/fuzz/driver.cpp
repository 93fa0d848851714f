/// Runs a fuzz target where there is no libFuzzer: its corpus, the seeds, and changes of both, the same ones every
/// time.
#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lategrad/core/error.h"
#include "lategrad/core/random.h"
#include "tests/fuzz/targets.h"

namespace lategrad::fuzz {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kChanged = 10000;

std::vector<Bytes> files_of(const fs::path& directory) {
    std::vector<fs::path> paths;
    for (const auto& entry : fs::directory_iterator(directory)) paths.push_back(entry.path());
    std::ranges::sort(paths);
    std::vector<Bytes> out;
    for (const fs::path& path : paths) {
        std::ifstream in(path, std::ios::binary);
        const std::string text(std::istreambuf_iterator<char>(in), {});
        CHECK(in);
        const auto bytes = std::as_bytes(std::span(text));
        out.emplace_back(bytes.begin(), bytes.end());
    }
    return out;
}

/// One to four changes. Half of them are where lengths, counts and tables stand.
Bytes changed(Bytes bytes, const std::vector<Bytes>& others, RandomStream& random) {
    for (std::uint64_t changes = 1 + random.below(4); changes > 0 && !bytes.empty(); --changes) {
        const std::size_t near = random.below(2) == 0 ? std::min<std::size_t>(bytes.size(), 64) : bytes.size();
        const auto at = bytes.begin() + static_cast<std::ptrdiff_t>(random.below(near));
        const auto some = [&](std::size_t most) {
            const auto left = static_cast<std::size_t>(bytes.end() - at);
            return static_cast<std::ptrdiff_t>(random.below(std::min(left, most) + 1));
        };
        switch (random.below(7)) {
        case 0: *at = static_cast<std::byte>(random.below(256)); break;
        case 1: *at ^= static_cast<std::byte>(1U << random.below(8)); break;
        case 2:
            std::fill_n(at, some(8), std::array{std::byte{0}, std::byte{0x7f}, std::byte{0xff}}[random.below(3)]);
            break;
        case 3: bytes.insert(at, random.below(16), static_cast<std::byte>(random.below(256))); break;
        case 4: bytes.erase(at, at + some(16)); break;
        case 5: bytes[0] = static_cast<std::byte>(random.below(256)); break; // the control byte
        case 6: {                                                            // what another one has there
            const Bytes& other = others[random.below(others.size())];
            const auto from = std::min<std::ptrdiff_t>(at - bytes.begin(), std::ssize(other));
            std::copy_n(other.begin() + from, std::min(some(256), std::ssize(other) - from), at);
            break;
        }
        }
    }
    return bytes;
}

void run_all(const std::vector<Bytes>& corpus) {
    const std::vector<Bytes> passing = seeds();
    for (const Bytes& input : corpus) run(input);
    for (const Bytes& input : passing) CHECK(run(input));
    RandomStream random(1, Purpose::test);
    std::size_t passed = 0;
    for (std::size_t i = 0; i < kChanged; ++i) {
        const std::vector<Bytes>& from = i % 2 == 0 || corpus.empty() ? passing : corpus;
        if (run(changed(from[i / 2 % from.size()], passing, random))) ++passed;
    }
    std::printf("%zu inputs and %zu seeds; %zu changed ones, of which %zu pass\n", corpus.size(), passing.size(),
                kChanged, passed);
}

} // namespace
} // namespace lategrad::fuzz

int main(int argc, char** argv) {
    namespace fuzz = lategrad::fuzz;
    LLVMFuzzerInitialize(&argc, &argv);
    std::vector<fuzz::Bytes> corpus;
    for (int i = 1; i < argc; ++i) {
        if (!std::string_view(argv[i]).starts_with("--")) {
            std::ranges::move(fuzz::files_of(argv[i]), std::back_inserter(corpus));
        }
    }
    fuzz::run_all(corpus);
}
