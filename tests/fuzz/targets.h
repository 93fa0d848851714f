/// The fuzz targets by name; each process has one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tests/fuzz/target.h"

/// What libFuzzer calls. The first one comes once, before all else, and takes of the arguments `--target=NAME` and,
/// where it is there, `--seeds=DIRECTORY`, into which it writes the seeds.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace lategrad::fuzz {

/// Whether the payload in an input passed.
bool run(std::span<const std::byte> input);

/// Inputs that pass, made by real encoders.
std::vector<Bytes> seeds();

} // namespace lategrad::fuzz
