/// Small things libtorch needs. Internal to this folder.
#pragma once

#include <exception>
#include <string>

namespace lategrad {

/// Sets the intra-op threads of the calling thread; libtorch and OpenMP keep their number per thread.
void use_threads(int intra_op_threads);

/// What libtorch's error says, in one line, without its stack of frames.
std::string one_line(const std::exception& error);

} // namespace lategrad
