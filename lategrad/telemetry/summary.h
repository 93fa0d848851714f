/// What a run came to: summary.json.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lategrad/node/run_event.h"

namespace lategrad {

/// A simulated run's Summary::transport.
inline constexpr std::string_view kSimulated = "simulation";

/// How much a simulated run's servers had to do, in shares of its time: their links in each direction, their updates.
struct ServerLoad {
    double receiving = 0;
    double sending = 0;
    double updating = 0;

    friend bool operator==(const ServerLoad&, const ServerLoad&) = default;
};

struct Summary {
    std::string policy;
    std::uint32_t workers = 0;
    std::uint32_t wait_for = 0;
    std::uint64_t updates = 0;
    double seconds = 0;             ///< from the start of the run to its end; what follows is not in it
    std::optional<double> accuracy; ///< of the last version evaluated; none for regression
    std::optional<double> loss;     ///< the same version's, on the test part
    std::uint64_t pushed = 0;       ///< = applied + dropped + held + lost, at the end of the run
    std::uint64_t applied = 0;
    std::uint64_t dropped = 0;
    std::uint64_t held = 0;
    std::uint64_t lost = 0;
    double staleness_mean = 0; ///< over the applied gradients
    std::uint64_t staleness_max = 0;
    std::uint64_t bytes_received = 0;
    std::uint64_t bytes_sent = 0;
    Outcome outcome = Outcome::running;

    std::optional<double> best_accuracy;
    std::uint64_t examples_applied = 0;
    std::uint64_t late_applied = 0; ///< applied with a staleness above 0
    /// Applied gradients by staleness: [0] fresh ones, [i] those from 2^(i−1) to 2^i − 1 updates late.
    std::vector<std::uint64_t> staleness_histogram;
    double work_used = 0;    ///< applied / (arrived + cancelled); 0 where there were none
    std::uint64_t stray = 0; ///< the server's count; no event tells it
    /// The share of the training examples that were drawn at least once; none where the server does not say who draws
    /// what, as it does in an elastic run.
    std::optional<double> data_coverage;
    std::string model;
    std::string data;
    std::string transport;
    std::string codec;
    std::string publish_codec;
    std::optional<ServerLoad> server_load; ///< of a simulated run
    /// What the server's transport dropped, by kind; of an elastic run, since it was last resumed.
    std::map<std::string, std::uint64_t> faults;

    friend bool operator==(const Summary&, const Summary&) = default;
};

/// Two spaces of indentation, in the order of the fields above, and no newline at the end.
std::string to_json(const Summary& summary);
/// Throws InputError saying what is wrong; the caller adds the file.
Summary parse_summary(std::string_view json);

/// Counts a run's events: an account of the gradients that owes nothing to the server's ledger.
class SummaryBuilder {
  public:
    /// `known` has what no event tells: policy, workers, model …
    explicit SummaryBuilder(Summary known = {}) : summary_(std::move(known)) {}

    void tell(const RunEvent& event);
    /// As of the events told so far. What has been assigned and not yet ended is in `pushed` alone.
    const Summary& summary() const { return summary_; }

  private:
    void on_update(const UpdateEvent& update);
    void on_evaluation(const Evaluation& evaluation);

    Summary summary_;
    std::uint64_t arrived_ = 0;
    std::uint64_t cancelled_ = 0; ///< computed on in vain; what the end of the run cut short is not among them
    std::uint64_t staleness_sum_ = 0;
    std::optional<Version> last_evaluated_;
};

} // namespace lategrad
