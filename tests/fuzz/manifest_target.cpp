/// Whatever checkpoint.json is read is written again so that it reads the same.
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <xxhash.h>

#include "lategrad/checkpoint/manifest.h"
#include "tests/fuzz/file.h"
#include "tests/fuzz/input.h"

namespace lategrad::fuzz {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kChecksum = "checksum";
constexpr int kDepthMax = 64; ///< writing nested lists takes stack

/// As manifest.cpp makes it. What it refuses before it looks at the checksum stays as it is.
Bytes with_checksum(const Bytes& bytes) {
    bool deep = false;
    const auto watch = [&](int depth, Json::parse_event_t, Json&) {
        deep = deep || depth > kDepthMax;
        return !deep;
    };
    Json json = Json::parse(text_in(bytes), watch, false);
    if (deep || !json.is_object()) return bytes;
    json.erase(kChecksum);
    const std::string text = json.dump();
    json[kChecksum] = fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
    return bytes_in(json.dump());
}

class ManifestTarget final : public Target {
  public:
    bool run(unsigned control, Bytes bytes) const override {
        if ((control & kSealAsIs) == 0) bytes = with_checksum(bytes);
        return passes({}, [&] {
            const CheckpointManifest manifest = parse_manifest(text_in(bytes));
            CHECK(parse_manifest(to_json(manifest)) == manifest);
        });
    }

    std::vector<Bytes> payloads() const override {
        const CheckpointManifest whole{.summary = {.kind = CheckpointSummary::Kind::simulation,
                                                   .version = Version{120},
                                                   .seconds = 1.0 / 3,
                                                   .examples_applied = 1 << 20,
                                                   .incarnation = Incarnation{1},
                                                   .ledger = {{"pushed", 4}, {"held", 0}}},
                                       .files = {{"state.bin", {.bytes = 12, .checksum = 0xfedcba9876543210}}}};
        return {bytes_in(to_json(whole)), bytes_in(to_json({}))};
    }
};

} // namespace

std::unique_ptr<Target> make_manifest_target(const std::string&) {
    return std::make_unique<ManifestTarget>();
}

} // namespace lategrad::fuzz
