#include "lategrad/telemetry/progress.h"

#include <algorithm>
#include <cmath>

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

std::string bytes_text(std::uint64_t bytes) {
    if (bytes < 1024) return fmt::format("{} B", bytes);
    double value = static_cast<double>(bytes) / 1024;
    const char* const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
    std::size_t unit = 0;
    for (; value >= 1024 && unit + 1 < std::size(units); ++unit) value /= 1024;
    return fmt::format("{:.1f} {}", value, units[unit]);
}

} // namespace

bool is_terminal(std::FILE* out) {
    return ::isatty(::fileno(out)) == 1;
}

Progress::Progress(std::FILE* out, bool terminal, ProgressGoal goal) : out_(out), terminal_(terminal), goal_(goal) {}

void Progress::tell(const RunEvent& event) {
    now_ = event.at;
    if (const auto* update = std::get_if<UpdateEvent>(&event.body)) {
        on_update(*update);
    } else if (const auto* evaluation = std::get_if<Evaluation>(&event.body)) {
        if (!evaluation_ || evaluation_->version <= evaluation->version) evaluation_ = *evaluation;
        if (!terminal_) {
            write(out_, fmt::format("{}\n", facts(evaluation->version)));
            std::fflush(out_);
        }
    } else if (std::holds_alternative<AssignEvent>(event.body) && !last_update_) {
        last_update_ = now_;
    } else {
        return;
    }
    if (terminal_ && (!drawn_at_ || now_ - *drawn_at_ >= kRedrawInterval)) draw();
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

std::string Progress::facts(Version version) const {
    std::string text = fmt::format("version {}", version.value());
    if (goal_.updates) text += fmt::format("/{}", *goal_.updates);
    if (updates_ > 0) text += fmt::format("  loss {:.4f}", loss_);
    if (evaluation_ && evaluation_->accuracy) {
        text += fmt::format("  accuracy {:.2f} %", 100 * *evaluation_->accuracy);
        if (goal_.target_accuracy) text += fmt::format(" of {:g} %", 100 * *goal_.target_accuracy);
    } else if (evaluation_) {
        text += fmt::format("  test loss {:.4g}", evaluation_->loss);
    }
    if (seconds_per_update_ > 0) text += fmt::format("  {:.1f} updates/s", 1 / seconds_per_update_);
    text += fmt::format("  late used {}", late_applied_);
    if (const auto left = seconds_left()) text += fmt::format("  {} left", duration_text(*left));
    return text;
}

void Progress::draw() {
    // The last column stays free: some terminals wrap as soon as it is written to.
    write(out_, fmt::format("\r{:.{}}\x1b[K", facts(version_), terminal_width(out_) - 1));
    std::fflush(out_);
    drawn_at_ = now_;
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
    line("policy", fmt::format("{}, waits for {} of {} workers", summary.policy, summary.wait_for, summary.workers));
    line("updates", fmt::format("{} in {:.1f} s, {:.1f} per second", summary.updates, summary.seconds, rate));
    if (summary.accuracy) {
        line("test", fmt::format("accuracy {:.2f} % (best {:.2f} %), loss {:.4f}", 100 * *summary.accuracy,
                                 100 * summary.best_accuracy.value_or(*summary.accuracy), summary.loss.value_or(NAN)));
    } else if (summary.loss) {
        line("test", fmt::format("loss {:.6g}", *summary.loss));
    }
    line("gradients",
         fmt::format("{} asked for: {} applied ({} of them late), {} dropped, {} held, {} lost", summary.pushed,
                     summary.applied, summary.late_applied, summary.dropped, summary.held, summary.lost));
    line("work used", fmt::format("{:.1f} % of the gradients that arrived", 100 * summary.work_used));
    line("staleness", fmt::format("mean {:.2f}, max {}", summary.staleness_mean, summary.staleness_max));
    line("traffic",
         fmt::format("{} received, {} sent", bytes_text(summary.bytes_received), bytes_text(summary.bytes_sent)));
    if (!folder.empty()) line("run folder", folder.string());
    return text;
}

} // namespace lategrad
