#include "lategrad/checkpoint/manifest.h"

#include <array>
#include <charconv>
#include <limits>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <xxhash.h>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::uint64_t kFormat = 1; ///< of all the checkpoint's files
constexpr const char* kChecksum = "checksum";
constexpr int kDepthMax = 8;

std::string hex(std::uint64_t value) {
    return fmt::format("{:016x}", value);
}

std::uint64_t checksum_of_text(std::string_view text) {
    return XXH3_64bits(text.data(), text.size());
}

[[noreturn]] void fail(std::string_view what) {
    throw InputError(std::string(what));
}

const Json& field(const Json& object, const char* name) {
    if (!object.is_object() || !object.contains(name)) fail(fmt::format("field \"{}\" is missing", name));
    return object[name];
}

std::uint64_t whole(const Json& object, const char* name,
                    std::uint64_t max = std::numeric_limits<std::uint64_t>::max()) {
    const Json& value = field(object, name);
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > max) {
        fail(fmt::format("field \"{}\" is not such a whole number", name));
    }
    return value.get<std::uint64_t>();
}

std::uint64_t from_hex(const Json& object, const char* name) {
    const Json& value = field(object, name);
    const std::string text = value.is_string() ? value.get<std::string>() : std::string();
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, 16);
    if (error != std::errc() || end != text.data() + text.size())
        fail(fmt::format("field \"{}\" is no checksum", name));
    return number;
}

CheckpointSummary::Kind kind_of(const Json& object) {
    using Kind = CheckpointSummary::Kind;
    const Json& value = field(object, "kind");
    for (const Kind kind : {Kind::simulation, Kind::server}) {
        if (value.is_string() && value.get_ref<const std::string&>() == to_string(kind)) return kind;
    }
    fail("field \"kind\" is of no kind that this program knows");
}

} // namespace

std::string_view to_string(CheckpointSummary::Kind kind) {
    return kind == CheckpointSummary::Kind::simulation ? "simulation" : "server";
}

std::string to_json(const CheckpointManifest& manifest) {
    const CheckpointSummary& summary = manifest.summary;
    Json json;
    json["format"] = kFormat;
    json["kind"] = to_string(summary.kind);
    json["version"] = summary.version.value();
    json["incarnation"] = summary.incarnation.value();
    json["seconds"] = summary.seconds;
    json["events"] = summary.events;
    json["examples_applied"] = summary.examples_applied;
    json["data_coverage"] = summary.data_coverage ? Json(*summary.data_coverage) : Json();
    json["ledger"] = summary.ledger;
    json["files"] = Json::object();
    for (const auto& [name, file] : manifest.files) {
        json["files"][name] = {{"bytes", file.bytes}, {kChecksum, hex(file.checksum)}};
    }
    json[kChecksum] = hex(checksum_of_text(json.dump()));
    return json.dump(2) + "\n";
}

CheckpointManifest parse_manifest(std::string_view text) {
    // Writing it again, for the checksum, takes stack for each level.
    const auto watch = [](int depth, Json::parse_event_t, Json&) {
        if (depth > kDepthMax) fail("is damaged (more levels than it has)");
        return true;
    };
    Json json = Json::parse(text, watch, false);
    if (!json.is_object()) fail("is damaged (no JSON object)");
    // First, so that a later format is told from damage.
    if (whole(json, "format") > kFormat) fail("is of a later format; a newer lategrad reads it");
    const std::uint64_t checksum = from_hex(json, kChecksum);
    json.erase(kChecksum);
    if (checksum != checksum_of_text(json.dump(-1, ' ', false, Json::error_handler_t::replace))) {
        fail("is damaged (checksum differs)");
    }

    CheckpointManifest manifest;
    CheckpointSummary& summary = manifest.summary;
    summary.kind = kind_of(json);
    summary.version = Version{whole(json, "version")};
    summary.incarnation =
        Incarnation{static_cast<std::uint32_t>(whole(json, "incarnation", std::numeric_limits<std::uint32_t>::max()))};
    if (!field(json, "seconds").is_number()) fail("field \"seconds\" is no number");
    summary.seconds = json["seconds"].get<double>();
    summary.events = whole(json, "events");
    summary.examples_applied = whole(json, "examples_applied");
    const Json& coverage = field(json, "data_coverage");
    if (!coverage.is_null() && !coverage.is_number()) fail("field \"data_coverage\" is no number");
    if (!coverage.is_null()) summary.data_coverage = coverage.get<double>();
    for (const auto& [name, value] : field(json, "ledger").items()) {
        summary.ledger[name] = whole(json["ledger"], name.c_str());
    }
    for (const auto& [name, value] : field(json, "files").items()) {
        manifest.files[name] = {.bytes = whole(value, "bytes"), .checksum = from_hex(value, kChecksum)};
    }
    return manifest;
}

std::uint64_t checksum_of(std::span<const std::span<const std::byte>> pieces) {
    const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), &XXH3_freeState);
    if (!state) throw std::bad_alloc();
    XXH3_64bits_reset(state.get());
    for (const auto piece : pieces) XXH3_64bits_update(state.get(), piece.data(), piece.size());
    return XXH3_64bits_digest(state.get());
}

std::uint64_t checksum_of(std::span<const std::byte> bytes) {
    return checksum_of(std::span(&bytes, 1));
}

} // namespace lategrad
