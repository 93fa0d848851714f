/// One decoder, and what is done with each input: validated, and decoded where it passes. What must not be is a failed
/// CHECK or a sanitizer's report. targets.cpp lists them.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace lategrad::fuzz {

using Bytes = std::vector<std::byte>;

class Target {
  public:
    virtual ~Target() = default;

    /// Whether the payload passed. `control` is of input.h. Anything may be in the payload.
    virtual bool run(unsigned control, Bytes payload) const = 0;

    /// From real encoders.
    virtual std::vector<Bytes> payloads() const = 0;
    /// What they go with.
    virtual unsigned control() const { return 0; }
};

/// Of gradients: `spec` is a --codec.
std::unique_ptr<Target> make_gradient_target(const std::string& spec);
/// Of parameters: `spec` is a --publish-codec.
std::unique_ptr<Target> make_publish_target(const std::string& spec);

} // namespace lategrad::fuzz
