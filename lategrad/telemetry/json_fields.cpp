#include "lategrad/telemetry/json_fields.h"

namespace lategrad {

nlohmann::json parse_json_object(std::string_view text) {
    try {
        nlohmann::json object = nlohmann::json::parse(text);
        if (!object.is_object()) throw InputError("not a JSON object");
        return object;
    } catch (const nlohmann::json::parse_error& error) {
        throw InputError(fmt::format("not JSON at byte {}", error.byte));
    } catch (const nlohmann::json::exception&) { // a number too large for a double
        throw InputError("not JSON that this program can read");
    }
}

JsonFields::JsonFields(const nlohmann::json& object) : object_(object) {
    if (!object.is_object()) throw InputError("not a JSON object");
}

const nlohmann::json& JsonFields::field(const char* name) const {
    const auto found = object_.find(name);
    if (found == object_.end()) throw InputError(fmt::format("field \"{}\" is missing", name));
    return *found;
}

std::uint64_t JsonFields::whole(const char* name) const {
    const nlohmann::json& value = field(name);
    if (!value.is_number_unsigned()) throw InputError(fmt::format("field \"{}\" is not a whole number", name));
    return value.get<std::uint64_t>();
}

std::optional<double> JsonFields::optional_number(const char* name) const {
    const nlohmann::json& value = field(name);
    if (value.is_null()) return std::nullopt;
    if (!value.is_number()) throw InputError(fmt::format("field \"{}\" is not a number", name));
    return value.get<double>();
}

bool JsonFields::has(const char* name) const {
    return object_.contains(name);
}

std::string JsonFields::text(const char* name) const {
    const nlohmann::json& value = field(name);
    if (!value.is_string()) throw InputError(fmt::format("field \"{}\" is not a text", name));
    return value.get<std::string>();
}

const nlohmann::json& JsonFields::array(const char* name) const {
    const nlohmann::json& value = field(name);
    if (!value.is_array()) throw InputError(fmt::format("field \"{}\" is not a list", name));
    return value;
}

} // namespace lategrad
