/// A run as it is shown to the person who waits for it.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "lategrad/node/run_event.h"
#include "lategrad/telemetry/summary.h"

namespace lategrad {

/// What the run ends at, whichever comes first; the time left is estimated from it.
struct ProgressGoal {
    std::optional<std::uint64_t> updates;
    std::optional<double> epochs;
    std::uint64_t epoch_examples = 0; ///< REQUIRES: > 0 with epochs
    std::optional<Duration> time_limit;
    std::optional<double> target_accuracy;
    std::uint64_t eval_every = 1; ///< versions between those that are evaluated; 0: the last alone, if any
};

/// On a terminal one line, redrawn; elsewhere one line per evaluation. Time is the events'.
class Progress {
  public:
    /// `out` stays the caller's and must outlive this. `pace` is what redraws are paced by; empty: the events' time,
    /// which in a simulation may fly.
    Progress(std::FILE* out, bool terminal, ProgressGoal goal, std::function<Time()> pace = {});

    void tell(const RunEvent& event);
    /// Draws the last state and ends the terminal's line. Nothing else, and nothing where nothing was drawn.
    void finish();

  private:
    /// What is known after an update.
    struct Facts {
        Version version;
        std::optional<double> loss; ///< mean over the recent updates' batches; none before the first update
        double seconds_per_update = 0;
        std::uint64_t late_applied = 0;
        std::optional<double> seconds_left;
    };
    enum class Form { full, brief };

    void on_update(const UpdateEvent& update);
    void on_evaluation(const Evaluation& evaluation);
    Facts facts_now() const;
    std::optional<double> seconds_left() const;
    /// One line; fields that are worth the least are left out until it fits into `width`.
    std::string line(const Facts& facts, const std::optional<Evaluation>& evaluation, Form form,
                     std::size_t width) const;
    void draw();

    std::FILE* out_;
    bool terminal_;
    ProgressGoal goal_;
    std::function<Time()> pace_;
    Time now_{};
    std::optional<Time> drawn_at_;
    Version version_;
    std::uint64_t updates_ = 0;
    std::optional<Time> last_update_; ///< or the first assignment: what goes before is not training
    double seconds_per_update_ = 0;
    double loss_ = 0;
    std::uint64_t examples_applied_ = 0;
    std::uint64_t late_applied_ = 0;
    std::optional<Evaluation> evaluation_;
    std::map<Version, Facts> facts_; ///< where lines are printed: of the versions still to be evaluated
};

/// True where `out` is a terminal.
bool is_terminal(std::FILE* out);

/// As 12.3 MiB.
std::string bytes_text(std::uint64_t bytes);

/// What a run came to, in about eight aligned lines; `folder` is named where it is not empty.
std::string human_summary(const Summary& summary, const std::filesystem::path& folder);

} // namespace lategrad
