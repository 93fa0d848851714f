#include "lategrad/telemetry/progress.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace lategrad {
namespace {

/// Progress that cannot be shown, as on a full disk, does not end a run.
void write(std::FILE* out, const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), out);
}

constexpr Duration kRedrawInterval = std::chrono::milliseconds(100);
constexpr std::size_t kWidthDefault = 80;
/// Rate and loss are means over about so many recent updates.
constexpr std::uint64_t kSmoothing = 50;

std::size_t terminal_width(std::FILE* out) {
    winsize size{};
    const bool known = ::ioctl(::fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return known ? size.ws_col : kWidthDefault;
}

/// 0:42, 12:03, 1:02:03.
std::string duration_text(double seconds) {
    const auto total = static_cast<std::uint64_t>(std::min(std::ceil(seconds), 1e9));
    const std::uint64_t hours = total / 3600, minutes = total / 60 % 60;
    if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes, total % 60);
    return fmt::format("{}:{:02}", minutes, total % 60);
}

/// A number that may have become a NaN, whose sign is nobody's business.
std::string decimals(double value, int places) {
    return std::isnan(value) ? "nan" : fmt::format("{:.{}f}", value, places);
}

} // namespace

std::string bytes_text(std::uint64_t bytes) {
    if (bytes < 1024) return fmt::format("{} B", bytes);
    double value = static_cast<double>(bytes) / 1024;
    const char* const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
    std::size_t unit = 0;
    for (; value >= 1024 && unit + 1 < std::size(units); ++unit) value /= 1024;
    return fmt::format("{:.1f} {}", value, units[unit]);
}

bool is_terminal(std::FILE* out) {
    return ::isatty(::fileno(out)) == 1;
}

Progress::Progress(std::FILE* out, bool terminal, ProgressGoal goal, std::function<Time()> pace)
    : out_(out),
      terminal_(terminal),
      goal_(goal),
      pace_(std::move(pace)) {}

void Progress::tell(const RunEvent& event) {
    now_ = event.at;
    if (const auto* update = std::get_if<UpdateEvent>(&event.body)) {
        on_update(*update);
    } else if (const auto* evaluation = std::get_if<Evaluation>(&event.body)) {
        on_evaluation(*evaluation);
    } else if (std::holds_alternative<AssignEvent>(event.body) && !last_update_) {
        last_update_ = now_;
    } else {
        return;
    }
    if (!terminal_) return;
    const Time now = pace_ ? pace_() : now_;
    if (drawn_at_ && now - *drawn_at_ < kRedrawInterval) return;
    draw();
    drawn_at_ = now;
}

void Progress::on_update(const UpdateEvent& update) {
    version_ = update.version.next();
    examples_applied_ = update.examples_applied;
    for (const AppliedGradient& gradient : update.applied) late_applied_ += gradient.base < update.version;
    // A plain mean at first, then one that forgets.
    ++updates_;
    const double share = 1.0 / static_cast<double>(std::min(updates_, kSmoothing));
    loss_ = std::isfinite(loss_) ? loss_ + share * (update.loss - loss_) : update.loss;
    seconds_per_update_ += share * (seconds(now_ - last_update_.value_or(now_)) - seconds_per_update_);
    last_update_ = now_;
    if (!terminal_ && goal_.eval_every > 0 && version_.value() % goal_.eval_every == 0) facts_[version_] = facts_now();
}

void Progress::on_evaluation(const Evaluation& evaluation) {
    if (!evaluation_ || evaluation_->version <= evaluation.version) evaluation_ = evaluation;
    if (terminal_) return;
    // It was made beside the run, or after it: the line is about its version.
    const auto found = facts_.find(evaluation.version);
    Facts facts = found == facts_.end() ? facts_now() : found->second;
    facts.version = evaluation.version;
    facts_.erase(facts_.begin(), facts_.upper_bound(evaluation.version));
    write(out_, line(facts, evaluation, Form::full, std::numeric_limits<std::size_t>::max()) + "\n");
    std::fflush(out_);
}

Progress::Facts Progress::facts_now() const {
    return {.version = version_,
            .loss = updates_ > 0 ? std::optional(loss_) : std::nullopt,
            .seconds_per_update = seconds_per_update_,
            .late_applied = late_applied_,
            .seconds_left = seconds_left()};
}

std::optional<double> Progress::seconds_left() const {
    std::optional<double> left;
    const auto at_most = [&left](double estimate) {
        left = std::max(0.0, std::min(estimate, left.value_or(estimate)));
    };
    if (goal_.time_limit) at_most(seconds(*goal_.time_limit) - seconds(now_));
    if (updates_ == 0) return left;
    if (goal_.updates) {
        at_most((static_cast<double>(*goal_.updates) - static_cast<double>(version_.value())) * seconds_per_update_);
    }
    if (goal_.epochs) {
        const double examples_left =
            *goal_.epochs * static_cast<double>(goal_.epoch_examples) - static_cast<double>(examples_applied_);
        const double examples_per_update = static_cast<double>(examples_applied_) / static_cast<double>(updates_);
        at_most(examples_left / examples_per_update * seconds_per_update_);
    }
    return left;
}

std::string Progress::line(const Facts& facts, const std::optional<Evaluation>& evaluation, Form form,
                           std::size_t width) const {
    const bool full = form == Form::full;
    struct Field {
        int worth;
        std::string text;
    };
    std::vector<Field> fields;
    fields.push_back({9, fmt::format("{} {}", full ? "version" : "v", facts.version.value())});
    if (goal_.updates) fields.back().text += fmt::format("/{}", *goal_.updates);
    if (facts.loss) fields.push_back({7, fmt::format("loss {}", decimals(*facts.loss, full ? 4 : 3))});
    if (evaluation && evaluation->accuracy) {
        fields.push_back(
            {8, fmt::format("{} {:.{}f} %", full ? "accuracy" : "acc", 100 * *evaluation->accuracy, full ? 2 : 1)});
        if (goal_.target_accuracy) fields.back().text += fmt::format(" of {:g} %", 100 * *goal_.target_accuracy);
    } else if (evaluation) {
        fields.push_back({8, fmt::format("test loss {:.4g}", evaluation->loss)});
    }
    if (facts.seconds_per_update > 0) {
        fields.push_back({4, fmt::format("{:.1f}{}", 1 / facts.seconds_per_update, full ? " updates/s" : "/s")});
    }
    fields.push_back({5, fmt::format("late {}{}", full ? "used " : "", facts.late_applied)});
    if (facts.seconds_left) fields.push_back({6, duration_text(*facts.seconds_left) + " left"});

    for (;;) {
        std::string text;
        for (const Field& field : fields) text += (text.empty() ? "" : "  ") + field.text;
        if (text.size() <= width || fields.size() == 1) return text.substr(0, width);
        fields.erase(std::min_element(fields.begin(), fields.end(),
                                      [](const Field& a, const Field& b) { return a.worth < b.worth; }));
    }
}

void Progress::draw() {
    const std::size_t width = terminal_width(out_) - 1; // some terminals wrap as soon as the last column is written to
    const Facts facts = facts_now();
    std::string text = line(facts, evaluation_, Form::full, std::numeric_limits<std::size_t>::max());
    if (text.size() > width) text = line(facts, evaluation_, Form::brief, width);
    write(out_, "\r" + text + "\x1b[K");
    std::fflush(out_);
}

void Progress::finish() {
    if (!drawn_at_) return;
    draw();
    write(out_, "\n");
    std::fflush(out_);
    drawn_at_.reset();
}

std::string human_summary(const Summary& summary, const std::filesystem::path& folder) {
    std::string text;
    const auto line = [&text](std::string_view label, const std::string& what) {
        text += fmt::format("{:<14}{}\n", label, what);
    };
    const double rate = summary.seconds > 0 ? static_cast<double>(summary.updates) / summary.seconds : 0;
    line("ended by", std::string(to_string(summary.outcome)));
    if (!summary.data.empty()) line("data", summary.data);
    line("policy", fmt::format("{}, waits for {} of {} workers", summary.policy, summary.wait_for, summary.workers));
    line("updates", fmt::format("{} in {:.1f} s{}, {:.1f} per second", summary.updates, summary.seconds,
                                summary.transport == kSimulated ? " of virtual time" : "", rate));
    if (summary.accuracy) {
        line("test", fmt::format("accuracy {:.2f} % (best {:.2f} %), loss {}", 100 * *summary.accuracy,
                                 100 * summary.best_accuracy.value_or(*summary.accuracy),
                                 decimals(summary.loss.value_or(NAN), 4)));
    } else if (summary.loss) {
        line("test", fmt::format("loss {:.6g}", *summary.loss));
    }
    line("gradients", fmt::format("{}: {} applied ({} late), {} dropped, {} held, {} lost", summary.pushed,
                                  summary.applied, summary.late_applied, summary.dropped, summary.held, summary.lost));
    line("work used", fmt::format("{:.1f} % of the gradients that were computed", 100 * summary.work_used));
    line("staleness", fmt::format("mean {:.2f}, max {}", summary.staleness_mean, summary.staleness_max));
    line("traffic",
         fmt::format("{} received, {} sent", bytes_text(summary.bytes_received), bytes_text(summary.bytes_sent)));
    if (summary.data_coverage) {
        line("coverage", fmt::format("{:.1f} % of the training examples drawn", 100 * *summary.data_coverage));
    }
    const auto& load = summary.server_load;
    if (load && load->receiving + load->sending + load->updating > 0) {
        line("server", fmt::format("receives {:.0f} %, sends {:.0f} %, updates {:.0f} % of the time",
                                   100 * load->receiving, 100 * load->sending, 100 * load->updating));
    }
    if (!folder.empty()) line("run folder", folder.string());
    return text;
}

} // namespace lategrad
