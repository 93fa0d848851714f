#include "lategrad/telemetry/json_text.h"

#include <chrono>
#include <cmath>
#include <iterator>

#include <fmt/compile.h>
#include <fmt/format.h>

#include "lategrad/core/error.h"

namespace lategrad {

void append_number(std::string& out, double value) {
    if (value == 0 && std::signbit(value)) out += "-0.0"; // -0 would be a whole number, which has no sign
    else if (std::isfinite(value)) fmt::format_to(std::back_inserter(out), FMT_COMPILE("{}"), value);
    else out += "null";
}

void append_seconds(std::string& out, Time time) {
    const auto count = std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
    CHECK(count >= 0);
    fmt::format_to(std::back_inserter(out), FMT_COMPILE("{}.{:06}"), count / 1'000'000, count % 1'000'000);
}

} // namespace lategrad
