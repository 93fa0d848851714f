/// A run as a timeline for Perfetto (ui.perfetto.dev) and chrome://tracing: their Trace Event Format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "lategrad/node/run_event.h"

namespace lategrad {

/// A timeline holds the first so many of a run's slices and marks; its metadata says how many are left out.
inline constexpr std::size_t kTraceMarksMax = 200'000;

/// A track per worker with a slice per gradient, from its assignment to its arrival or loss, and a track of the server
/// with a mark per update. Holds about 200 bytes for each.
class TraceBuilder {
  public:
    explicit TraceBuilder(std::size_t marks_max = kTraceMarksMax);

    void tell(const RunEvent& event);
    /// Throws EnvironmentError where it cannot be written.
    void write(const std::filesystem::path& path) const;

  private:
    /// A gradient that was assigned and has not ended yet.
    struct Open {
        Version version;
        Time from;
        std::optional<Time> until; ///< when its worker was given other parameters, at which it gives this one up
    };

    void on_assign(const AssignEvent& assign, Time at);
    void on_update(const UpdateEvent& update, Time at);
    void on_end(WorkerId worker, Step step, Time at, const std::string& args);
    void name_track(std::uint64_t track, const std::string& name);
    std::string& next_entry();
    bool has_room();

    std::size_t marks_max_;
    std::size_t marks_ = 0;
    std::size_t left_out_ = 0;
    std::string entries_;
    std::map<std::pair<WorkerId, Step>, Open> open_;
    std::set<WorkerId> workers_;
};

} // namespace lategrad
