#include "lategrad/optim/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>

#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"

namespace lategrad {
namespace {

constexpr std::string_view kForms =
    "constant, step:EPOCHS,FACTOR or cosine[:FINAL], each with +warmup:EPOCHS if wanted";

constexpr double kMost = 1e30; ///< a factor that grows; beyond it the learning rate would be no number any more

/// What follows `prefix` in `text`, or nothing where it does not start with it.
std::optional<std::string_view> after(std::string_view text, std::string_view prefix) {
    if (!text.starts_with(prefix)) return std::nullopt;
    return text.substr(prefix.size());
}

[[noreturn]] void fail(std::string_view spec, std::string_view what) {
    throw InputError(fmt::format("--lr-schedule '{}': {}; there are: {}", spec, what, kForms));
}

double number(std::string_view spec, std::string_view text, std::string_view what) {
    const auto value = parse_number<double>(text);
    if (!value) fail(spec, fmt::format("{} '{}' is not a number", what, text));
    return *value;
}

double positive(std::string_view spec, std::string_view text, std::string_view what) {
    const double value = number(spec, text, what);
    if (value <= 0) fail(spec, fmt::format("{} must be above 0", what));
    return value;
}

} // namespace

Schedule Schedule::parse(std::string_view spec) {
    Schedule schedule;
    constexpr std::string_view kWarmup = "+warmup:";
    const auto warmup = spec.find(kWarmup);
    const std::string_view shape = spec.substr(0, warmup);
    if (shape == "constant") {
        schedule.kind_ = Kind::constant;
    } else if (const auto step = after(shape, "step:")) {
        schedule.kind_ = Kind::step;
        const auto comma = step->find(',');
        if (comma == std::string_view::npos) fail(spec, "step needs EPOCHS,FACTOR");
        schedule.step_epochs_ = positive(spec, step->substr(0, comma), "EPOCHS");
        schedule.step_factor_ = positive(spec, step->substr(comma + 1), "FACTOR");
    } else if (shape == "cosine") {
        schedule.kind_ = Kind::cosine;
    } else if (const auto final = after(shape, "cosine:")) {
        schedule.kind_ = Kind::cosine;
        schedule.cosine_final_ = number(spec, *final, "FINAL");
        if (schedule.cosine_final_ < 0 || schedule.cosine_final_ > 1) fail(spec, "FINAL must be in [0, 1]");
    } else {
        fail(spec, fmt::format("unknown schedule '{}'", shape));
    }
    if (warmup != std::string_view::npos) {
        schedule.warmup_epochs_ = positive(spec, spec.substr(warmup + kWarmup.size()), "the warm-up's EPOCHS");
    }
    return schedule;
}

double Schedule::factor(const TrainingProgress& progress) const {
    const double epochs = static_cast<double>(progress.examples_applied) / static_cast<double>(progress.epoch_examples);
    const double warmup = epochs < warmup_epochs_ ? epochs / warmup_epochs_ : 1;
    switch (kind_) {
    case Kind::constant: return warmup;
    case Kind::step: return warmup * std::min(kMost, std::pow(step_factor_, std::floor(epochs / step_epochs_)));
    case Kind::cosine: {
        const double done = std::clamp(progress.done, 0.0, 1.0);
        const double wave = (1 + std::cos(std::numbers::pi * done)) / 2;
        return warmup * (cosine_final_ + (1 - cosine_final_) * wave);
    }
    }
    CHECK(false && "unknown schedule");
}

} // namespace lategrad
