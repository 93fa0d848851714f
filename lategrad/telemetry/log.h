/// Where warnings go.
#pragma once

namespace lategrad {

/// Sends spdlog's warnings to standard error as "lategrad: warning: …", so that standard output has results alone. Call
/// once, when the program starts.
void log_to_stderr();

} // namespace lategrad
