/// One decoder or parser, and what is done with each input: validated, and decoded where it passes. What must not be is
/// a failed CHECK, an exception or a sanitizer's report. targets.cpp lists them.
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

    /// That pass, from real encoders where there are any.
    virtual std::vector<Bytes> payloads() const = 0;
    /// What they go with.
    virtual unsigned control() const { return 0; }
};

/// Of gradients: `spec` is a --codec.
std::unique_ptr<Target> make_gradient_target(const std::string& spec);
/// Of parameters: `spec` is a --publish-codec.
std::unique_ptr<Target> make_publish_target(const std::string& spec);

/// Of headers on the wire.
std::unique_ptr<Target> make_wire_target(const std::string&);
/// Of files, gzipped or not.
std::unique_ptr<Target> make_gzip_target(const std::string&);
/// Of a model's weights and a user's arrays: `tensors`, or `arrays` with x and y.
std::unique_ptr<Target> make_safetensors_target(const std::string& spec);
/// Of `images` or `labels`.
std::unique_ptr<Target> make_idx_target(const std::string& spec);
/// Of `--straggle trace:FILE` or `--failures script:FILE`: `trace` or `script`.
std::unique_ptr<Target> make_csv_target(const std::string& spec);
/// Of `--config FILE.toml`: `spec` is the command.
std::unique_ptr<Target> make_config_target(const std::string& spec);
/// Of the lines of events.jsonl.
std::unique_ptr<Target> make_events_target(const std::string&);
/// Of summary.json.
std::unique_ptr<Target> make_summary_target(const std::string&);
/// Of checkpoint.json.
std::unique_ptr<Target> make_manifest_target(const std::string&);
/// Of a server's state: `POLICY CODEC PUBLISH-CODEC OPTIMIZER`.
std::unique_ptr<Target> make_state_target(const std::string& spec);
/// Of a simulation's state: `POLICY [topk] [limited] [dies] [stops]`.
std::unique_ptr<Target> make_simulation_target(const std::string& spec);
/// Of a `welcome` or a worker's `traits`.
std::unique_ptr<Target> make_handshake_target(const std::string& spec);
/// Of what is said to the server of an elastic run: `spec` is its --policy.
std::unique_ptr<Target> make_door_target(const std::string& spec);
/// Of what a connection over ZeroMQ carries.
std::unique_ptr<Target> make_frames_target(const std::string&);
/// Of a key file of a `worker`, or of those `admitted`.
std::unique_ptr<Target> make_keys_target(const std::string& spec);
/// Of a line of `evaluations`.jsonl, or of `fingerprint`.json.
std::unique_ptr<Target> make_records_target(const std::string& spec);
/// Of the value of the option of that name.
std::unique_ptr<Target> make_specs_target(const std::string& spec);

} // namespace lategrad::fuzz
