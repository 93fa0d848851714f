#include "lategrad/server/admission.h"

#include <string_view>

#include <nlohmann/json.hpp>

namespace lategrad {
namespace {

constexpr std::size_t kTextMax = 64 * 1024;
constexpr std::size_t kValueMax = 200; ///< of what is repeated in a message

std::string shown(const Traits& traits, const std::string& name) {
    const auto found = traits.find(name);
    return found == traits.end() ? "nothing" : found->second.substr(0, kValueMax);
}

} // namespace

std::string traits_text(const Traits& traits) {
    return nlohmann::json(traits).dump();
}

std::optional<Traits> parse_traits(std::span<const std::byte> bytes) {
    if (bytes.size() > kTextMax) return std::nullopt;
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const auto json = nlohmann::json::parse(text, nullptr, false);
    if (!json.is_object()) return std::nullopt;
    Traits traits;
    for (const auto& [name, value] : json.items()) {
        if (!value.is_string()) return std::nullopt;
        traits.emplace(name, value.get<std::string>());
    }
    return traits;
}

std::string shown_from(const Traits& theirs) {
    const auto found = theirs.find(kFrom);
    std::string from = found == theirs.end() ? "" : found->second.substr(0, kValueMax);
    for (char& letter : from) {
        if (letter < ' ' || letter > '~') letter = '?';
    }
    return from;
}

std::string difference(const Traits& ours, const Traits& theirs) {
    std::string words;
    for (const auto& [name, value] : ours) {
        const auto found = theirs.find(name);
        if (found != theirs.end() && found->second == value) continue;
        if (!words.empty()) words += "; ";
        words += name + ": " + shown(ours, name) + " on the server, " + shown(theirs, name) + " on the worker";
    }
    return words;
}

} // namespace lategrad
