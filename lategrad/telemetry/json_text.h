/// Numbers as JSON has them, for this folder alone.
#pragma once

#include <string>

#include "lategrad/core/time.h"

namespace lategrad {

/// The shortest text that reads back to the same number; null for one that is not finite.
void append_number(std::string& out, double value);
/// Seconds with six decimals, cut rather than rounded. REQUIRES: not before the start of the run.
void append_seconds(std::string& out, Time time);

} // namespace lategrad
