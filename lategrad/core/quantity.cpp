#include "lategrad/core/quantity.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"

namespace lategrad {

std::optional<double> parse_quantity(std::string_view text, std::initializer_list<Unit> units) {
    const std::size_t digits = text.find_last_of("0123456789.") + 1;
    const auto value = parse_number<double>(text.substr(0, digits));
    const auto unit =
        std::find_if(units.begin(), units.end(), [&](const Unit& u) { return u.name == text.substr(digits); });
    if (!value || *value < 0 || unit == units.end()) return std::nullopt;
    return *value * unit->value;
}

std::optional<double> parse_seconds(std::string_view text, bool bare_seconds) {
    auto seconds = parse_quantity(text, {{"us", 1e-6}, {"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}});
    if (!seconds && bare_seconds) seconds = parse_quantity(text, {{"", 1}});
    if (seconds && *seconds > kSecondsMax) return std::nullopt;
    return seconds;
}

Duration parse_duration(std::string_view text, std::string_view option, bool bare_seconds, std::string_view whole) {
    if (const auto seconds = parse_seconds(text, bare_seconds)) return Duration(std::llround(1e9 * *seconds));
    throw InputError(std::string(option) + " " + std::string(whole.empty() ? text : whole) + ": expected a time " +
                     (bare_seconds ? "in seconds or with a unit, up to 1e9 s, as in 90, 20ms or 2m"
                                   : "with a unit, up to 1e9 s, as in 20ms, 1.5s, 2m or 100us") +
                     (whole.empty() || whole == text ? "" : ", not '" + std::string(text) + "'"));
}

} // namespace lategrad
