#include "tests/fuzz/targets.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

#include "tests/fuzz/input.h"

namespace lategrad::fuzz {
namespace {

struct Entry {
    std::string_view name;
    std::unique_ptr<Target> (*make)(const std::string& spec);
    std::vector<std::string> specs; ///< at most kSpec + 1
};

/// One line for each decoder or parser. Each has a directory of its name in corpus/.
const std::vector<Entry>& entries() {
    static const std::vector<Entry> all{
        {"none", make_gradient_target, {"none"}},
        {"fp16", make_gradient_target, {"fp16"}},
        {"bf16", make_gradient_target, {"bf16"}},
        {"sparse", make_gradient_target, {"topk:0.05", "dgc:0.05"}},
        {"randk", make_gradient_target, {"randk:0.05"}},
        {"qsgd", make_gradient_target, {"qsgd:2", "qsgd:3", "qsgd:4", "qsgd:8"}},
        {"terngrad", make_gradient_target, {"terngrad"}},
        {"signsgd", make_gradient_target, {"signsgd"}},
        {"lowrank", make_gradient_target, {"lowrank:4"}},
        {"lz4", make_gradient_target, {"lz4"}},
        {"zstd", make_gradient_target, {"zstd"}},
        {"blosc", make_gradient_target, {"blosc"}},
        {"stacked", make_gradient_target, {"topk:0.05+zstd", "bf16+lz4", "qsgd:8+blosc"}},
        {"publish_stateless", make_publish_target, {"none", "bf16", "zstd"}},
        {"publish_dense", make_publish_target, {"delta:qsgd:4", "delta:bf16+zstd"}},
        {"publish_sparse", make_publish_target, {"delta:topk:0.05", "delta:topk:0.05+lz4"}},
        {"wire", make_wire_target, {""}},
        {"gzip", make_gzip_target, {""}},
        {"safetensors", make_safetensors_target, {"tensors", "arrays"}},
        {"idx", make_idx_target, {"images", "labels"}},
        {"csv", make_csv_target, {"trace", "script"}},
        {"config", make_config_target, {"train", "compare"}},
        {"events", make_events_target, {""}},
        {"summary", make_summary_target, {""}},
        {"manifest", make_manifest_target, {""}},
        {"state",
         make_state_target,
         {"sync none none sgd", "backup topk:0.2 bf16 adam", "reuse bf16 delta:topk:0.3 sgd",
          "kbatch qsgd:4 delta:qsgd:4 adamw", "ssp:2 lowrank:2 delta:signsgd sgd", "reuse none none adam",
          "kasync lz4 zstd sgd", "async randk:0.2 delta:topk:0.3+lz4 sgd"}},
        {"simulation",
         make_simulation_target,
         {"reuse", "sync topk stops", "backup limited", "kbatch limited dies", "ssp:1 dies stops"}},
        {"handshake", make_handshake_target, {"welcome", "traits"}},
        {"door", make_door_target, {"reuse", "sync", "backup", "kbatch", "ssp:1", "async"}},
        {"frames", make_frames_target, {""}},
        {"keys", make_keys_target, {"worker", "admitted"}},
        {"records", make_records_target, {"evaluations", "fingerprint"}},
        {"specs",
         make_specs_target,
         {"policy", "late-weight", "codec", "publish-codec", "lr-schedule", "straggle", "time", "partition"}},
    };
    return all;
}

/// One for each spec.
std::vector<std::unique_ptr<Target>>& chosen() {
    static std::vector<std::unique_ptr<Target>> targets;
    return targets;
}

std::optional<std::string_view> option(std::string_view name, std::span<char*> arguments) {
    for (const std::string_view argument : arguments) {
        if (argument.starts_with(name)) return argument.substr(name.size());
    }
    return std::nullopt;
}

void write_seeds(const std::filesystem::path& directory) {
    int number = 0;
    for (const Bytes& bytes : seeds()) {
        std::ofstream out(directory / ("seed_" + std::to_string(number++)), std::ios::binary);
        out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
        CHECK(out.flush());
    }
}

bool choose(std::string_view name) {
    const auto entry = std::ranges::find(entries(), name, &Entry::name);
    if (entry == entries().end()) return false;
    for (const std::string& spec : entry->specs) chosen().push_back(entry->make(spec));
    CHECK(chosen().size() <= kSpec + 1);
    return true;
}

std::vector<std::string_view> names() {
    std::vector<std::string_view> out;
    for (const Entry& entry : entries()) out.push_back(entry.name);
    return out;
}

} // namespace

bool run(std::span<const std::byte> input) {
    if (input.empty()) return false;
    const auto control = static_cast<unsigned>(input[0]);
    const auto payload = input.subspan(1);
    return chosen()[(control & kSpec) % chosen().size()]->run(control, {payload.begin(), payload.end()});
}

std::vector<Bytes> seeds() {
    constexpr std::size_t kBytesMax = 20000;
    std::vector<Bytes> out;
    for (std::size_t spec = 0; spec < chosen().size(); ++spec) {
        for (const Bytes& payload : chosen()[spec]->payloads()) {
            if (payload.size() > kBytesMax) continue;
            // As it is, and to be put right where it changes.
            for (const unsigned left : {kSealAsIs, kLengthsAsIs}) {
                Bytes& input = out.emplace_back(1, static_cast<std::byte>(chosen()[spec]->control() | left | spec));
                input.insert(input.end(), payload.begin(), payload.end());
            }
        }
    }
    return out;
}

} // namespace lategrad::fuzz

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
    namespace fuzz = lategrad::fuzz;
    const std::span<char*> arguments(*argv, static_cast<std::size_t>(*argc));
    const auto target = fuzz::option("--target=", arguments);
    if (!target || !fuzz::choose(*target)) {
        std::fputs("--target=NAME with one of:", stderr);
        for (const std::string_view name : fuzz::names()) std::fprintf(stderr, " %s", name.data());
        std::fputs("\n", stderr);
        std::exit(2);
    }
    if (const auto directory = fuzz::option("--seeds=", arguments)) fuzz::write_seeds(*directory);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    lategrad::fuzz::run(std::as_bytes(std::span(data, size)));
    return 0;
}
