/// Times, rates and sizes out of option values: a number with a unit.
#pragma once

#include <initializer_list>
#include <optional>
#include <string_view>

#include "lategrad/core/time.h"

namespace lategrad {

struct Unit {
    std::string_view name;
    double value;
};

/// `1.5s`, `100Mbit`, `4kB`: what the text says, in the scale of `units`; nothing where it is no number of at least 0
/// with one of them behind it.
std::optional<double> parse_quantity(std::string_view text, std::initializer_list<Unit> units);

/// Seconds of `20ms`, `1.5s`, `2m` or `100us`, up to kSecondsMax; of a bare number where `bare_seconds`.
std::optional<double> parse_seconds(std::string_view text, bool bare_seconds = false);

/// The same as a Duration. Throws InputError naming `option`, and the whole of its value where `text` is part of one.
Duration parse_duration(std::string_view text, std::string_view option, bool bare_seconds = false,
                        std::string_view whole = {});

} // namespace lategrad
