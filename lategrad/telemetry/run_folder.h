/// A run's folder: its options, its events as they happen, and what it came to.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lategrad/node/run_event.h"
#include "lategrad/telemetry/event_json.h"
#include "lategrad/telemetry/line_file.h"
#include "lategrad/telemetry/summary.h"

namespace lategrad {

/// What the run was built and run on, by name; a replay needs the same.
using FingerprintFields = std::map<std::string, std::string>;

/// Writes a run folder. One thread at a time.
class RunFolder {
  public:
    using Warn = std::function<void(const std::string&)>;

    /// Makes the folder, writes config.toml and fingerprint.json, and opens the others. Throws InputError where `path`
    /// holds a run already, cannot be written, or has less than `bytes_needed` and a little more free; then the disk is
    /// as it was. `warn` is told once of trouble later on; spdlog's warning by default.
    static RunFolder create(const std::filesystem::path& path, std::string_view config_toml,
                            const FingerprintFields& fingerprint, std::uint64_t bytes_needed, Warn warn = {});

    /// Goes on with the run in `path` behind its first `events` events, as a checkpoint knows it: what follows these
    /// moves to rolled-back-R.jsonl, R = 1, 2, …, and what the run had come to is removed. `kept` is told the events
    /// that stay. Throws InputError where there is no such run, another process writes to it, or not all of these
    /// events are there.
    static RunFolder resume(const std::filesystem::path& path, std::string_view config_toml, std::uint64_t events,
                            const std::function<void(const RunEvent&)>& kept, Warn warn = {});

    /// The incarnation of the server that goes on now: after `known`, and after all that were begun in this folder. It
    /// lasts before this returns. Throws InputError where the folder's file of it is damaged.
    Incarnation begin_incarnation(Incarnation known);

    /// What has been told so far is in the file.
    void flush_events() { flush(flushed_at_); }

    /// Appends to events.jsonl, and evaluations to evaluations.jsonl. Lines reach the file at every evaluation, about
    /// every second of run time, and at the end. Does not throw when the disk fails: training goes on, and what is in
    /// the files until then stays readable. REQUIRES: not finished.
    void tell(const RunEvent& event);

    /// Ends the lines and writes summary.json. Throws EnvironmentError where summary.json cannot be written.
    void finish(const Summary& summary);

    /// True once events were lost because they could not be written.
    bool damaged() const { return damaged_; }

    const std::filesystem::path& path() const { return path_; }
    std::filesystem::path config() const { return path_ / "config.toml"; }
    std::filesystem::path fingerprint() const { return path_ / "fingerprint.json"; }
    std::filesystem::path events() const { return path_ / "events.jsonl"; }
    std::filesystem::path evaluations() const { return path_ / "evaluations.jsonl"; }
    std::filesystem::path summary() const { return path_ / "summary.json"; }
    std::filesystem::path weights() const { return path_ / "weights.safetensors"; }
    std::filesystem::path trace() const { return path_ / "trace.json"; }
    std::filesystem::path checkpoints() const { return checkpoints_of(path_); }
    static std::filesystem::path checkpoints_of(const std::filesystem::path& run) { return run / "checkpoints"; }

  private:
    RunFolder(std::filesystem::path path, LineFile events, LineFile evaluations, Warn warn);
    void flush(Time now);
    void note_dropped(const RunEvent& event);
    void notice_damage();

    std::filesystem::path path_;
    LineFile event_lines_;
    LineFile evaluation_lines_;
    Warn warn_;
    std::vector<DroppedGradient> dropped_; ///< since the last update
    Time flushed_at_{};
    bool damaged_ = false;
};

/// runs/YYYYMMDD-HHMMSS-MODEL-POLICY in local time, with -2, -3 … behind it where that is there already.
std::filesystem::path new_run_path(std::string_view model, std::string_view policy,
                                   std::chrono::system_clock::time_point now = std::chrono::system_clock::now());

/// A line of evaluations.jsonl.
struct EvaluationLine {
    Version version;
    double seconds = 0;             ///< when the version was published
    std::uint64_t examples = 0;     ///< applied until then
    std::optional<double> accuracy; ///< none for regression
    double loss = 0;

    friend bool operator==(const EvaluationLine&, const EvaluationLine&) = default;
};

/// A run folder read back.
struct RecordedRun {
    std::string config_toml;
    FingerprintFields fingerprint;
    std::vector<RunEvent> events;
    std::vector<EvaluationLine> evaluations;
    std::optional<Summary> summary; ///< none where the run did not end
    bool truncated = false;         ///< a last line was cut short, as by a crash, and is left out
};

/// Throws InputError where `path` is no run folder, naming the runs in it where it is one of `compare`.
void require_run_folder(const std::filesystem::path& path);
/// The weights file in a run folder. Throws InputError where it is no run folder, or the run did not end.
std::filesystem::path weights_of_run(const std::filesystem::path& path);

/// What fingerprint.json, and a line of evaluations.jsonl, say. Throw InputError saying what is wrong with the text,
/// any text.
FingerprintFields parse_fingerprint(std::string_view json);
EvaluationLine parse_evaluation_line(std::string_view line);

/// What the run in this folder was built and run on. Throws InputError naming the file.
FingerprintFields read_fingerprint(const std::filesystem::path& run);

/// Throws InputError naming file and line.
RecordedRun read_run(const std::filesystem::path& path);

/// Calls `each` with every event of an events.jsonl, in order, without keeping them. True where the last line was cut
/// short and left out. Throws InputError naming file and line.
bool read_events(const std::filesystem::path& events_jsonl, const std::function<void(RunEvent)>& each);

} // namespace lategrad
