/// Run events as lines of JSON and back: the format of events.jsonl.
///
/// Times have microseconds. Other numbers read back exactly; one that is not finite is written as null and read back as
/// NaN.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "lategrad/node/run_event.h"

namespace lategrad {

/// A gradient that was dropped on its arrival.
struct DroppedGradient {
    WorkerId worker;
    Step step;
    Version base;
    Reason reason;
};

/// The event as one line, without the newline. An update lists also what was dropped since the previous update, for
/// readers of updates alone; others leave `dropped` empty.
std::string to_json_line(const RunEvent& event, std::span<const DroppedGradient> dropped = {});
/// The same at the end of `out`.
void append_json_line(std::string& out, const RunEvent& event, std::span<const DroppedGradient> dropped = {});

/// The event in `line`; an update's `dropped` is left out, because each of them has an `arrive` line. Throws InputError
/// saying what is wrong with the line; the caller adds file and line number.
RunEvent parse_json_line(std::string_view line);

} // namespace lategrad
