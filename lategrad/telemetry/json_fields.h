/// Reading this folder's own JSON objects, for this folder alone.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "lategrad/core/error.h"

namespace lategrad {

/// The object in `text`. Throws InputError saying what is wrong with it.
nlohmann::json parse_json_object(std::string_view text);

/// The fields of an object, by name and type. Every call throws InputError naming a field that is missing or of another
/// type. Keeps a reference to the object.
class JsonFields {
  public:
    /// REQUIRES: `object` outlives this. Throws InputError where it is no object.
    explicit JsonFields(const nlohmann::json& object);

    template <class Integer = std::uint64_t>
    Integer integer(const char* name) const {
        const std::uint64_t value = whole(name);
        if (value > std::numeric_limits<Integer>::max())
            throw InputError(fmt::format("field \"{}\" is too large: {}", name, value));
        return static_cast<Integer>(value);
    }
    /// An ordinal: WorkerId, Step, Version.
    template <class Id>
    Id id(const char* name) const {
        return Id{integer<decltype(Id{}.value())>(name)};
    }
    /// A number, or NaN for null.
    double number(const char* name) const { return optional_number(name).value_or(kNotANumber); }
    /// A number, or nothing for null.
    std::optional<double> optional_number(const char* name) const;
    bool has(const char* name) const;
    std::string text(const char* name) const;
    const nlohmann::json& array(const char* name) const;
    /// The enumerator between the first one and `last` whose to_string is the field's text.
    template <class Enum>
    Enum word(const char* name, Enum last) const {
        const std::string value = text(name);
        for (unsigned i = 0; i <= static_cast<unsigned>(last); ++i) {
            if (to_string(static_cast<Enum>(i)) == value) return static_cast<Enum>(i);
        }
        throw InputError(fmt::format("field \"{}\" is \"{}\", which this program does not know", name, value));
    }

  private:
    static constexpr double kNotANumber = std::numeric_limits<double>::quiet_NaN();

    const nlohmann::json& field(const char* name) const;
    std::uint64_t whole(const char* name) const;

    const nlohmann::json& object_;
};

} // namespace lategrad
