/// Three kinds of trouble: expected outcomes are values, the environment failing is an exception, our own bug is a
/// CHECK.
#pragma once

#include <stdexcept>
#include <string>

namespace lategrad {

/// The user's input is wrong: an option, a file, a data set, a model. One line: what, where, what to do. The program
/// ends with exit status 2.
class InputError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// The machine or its software failed: a disk, MPI, a library. The program ends with exit status 1.
class EnvironmentError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

} // namespace lategrad

/// States what must be true unless this program has a bug; ends the process with file and line otherwise.
#define CHECK(condition)                                                                                               \
    (static_cast<bool>(condition) ? static_cast<void>(0) : ::lategrad::check_failed(#condition, __FILE__, __LINE__))
