#include "lategrad/worker/straggle.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <optional>
#include <vector>

#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"
#include "lategrad/core/random.h"
#include "lategrad/files/csv.h"

namespace lategrad {
namespace {

constexpr double kSecondsMax = 1e9;

/// The bound also keeps a heavy tail within Duration.
Duration rounded(double nanoseconds) {
    return Duration(std::llround(std::min(nanoseconds, kSecondsMax * 1e9)));
}

std::optional<Duration> duration(std::string_view text, bool bare_seconds) {
    struct Unit {
        std::string_view name;
        double nanoseconds;
    };
    constexpr std::array units =
        std::to_array<Unit>({{"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}, {"", 1e9}});
    const std::size_t digits = text.find_last_of("0123456789.") + 1;
    const auto value = parse_number<double>(text.substr(0, digits));
    const auto unit =
        std::find_if(units.begin(), units.end(), [&](const Unit& u) { return u.name == text.substr(digits); });
    if (!value || *value < 0 || unit == units.end() || (unit->name.empty() && !bare_seconds)) return std::nullopt;
    const double nanoseconds = *value * unit->nanoseconds;
    if (nanoseconds > kSecondsMax * 1e9) return std::nullopt;
    return rounded(nanoseconds);
}

/// A trace has a line for each gradient that is delayed.
std::map<std::pair<std::uint32_t, std::uint64_t>, Duration> read_trace(const std::string& file) {
    std::map<std::pair<std::uint32_t, std::uint64_t>, Duration> trace;
    read_csv(file, {"worker", "step", "seconds"}, [&](const CsvRow& row) {
        const auto worker = parse_number<std::uint32_t>(row[0]);
        const auto step = parse_number<std::uint64_t>(row[1]);
        const auto seconds = parse_number<double>(row[2]);
        if (!worker) row.fail("worker '" + std::string(row[0]) + "' is not a number of a worker: 0, 1, …");
        if (!step) row.fail("step '" + std::string(row[1]) + "' is not a number of a step: 0, 1, …");
        if (!seconds || *seconds < 0 || *seconds > kSecondsMax)
            row.fail("seconds '" + std::string(row[2]) + "' is not a time from 0 to 1e9");
        if (!trace.emplace(std::pair(*worker, *step), rounded(1e9 * *seconds)).second)
            row.fail("a second line for worker " + std::to_string(*worker) + ", step " + std::to_string(*step));
    });
    return trace;
}

} // namespace

StraggleModel StraggleModel::parse(std::string_view spec, std::uint64_t seed) {
    StraggleModel model;
    model.spec_ = spec;
    model.seed_ = seed;
    const std::string_view name = spec.substr(0, spec.find(':'));
    const std::string_view rest = name.size() < spec.size() ? spec.substr(name.size() + 1) : std::string_view();
    const auto arguments = split(rest, ',');
    const auto expect = [&](bool valid, const std::string& form) {
        if (!valid) throw InputError("--straggle " + model.spec_ + ": expected " + form);
    };
    const auto time = [&](std::size_t i) -> std::optional<double> {
        const auto parsed = duration(arguments[i], false);
        return parsed ? std::optional(seconds(*parsed)) : std::nullopt;
    };
    const auto set = [&](Kind kind, std::optional<double> first, std::optional<double> second) {
        if (!first || !second) return false;
        model.kind_ = kind;
        model.first_ = *first;
        model.second_ = *second;
        return true;
    };
    const bool two = arguments.size() == 2;

    if (spec == "none") return model;
    if (name == "exp") {
        expect(arguments.size() == 1 && set(Kind::exponential, time(0), 0), "exp:MEAN, as in exp:20ms");
    } else if (name == "shifted-exp") {
        expect(two && set(Kind::shifted_exponential, time(0), time(1)),
               "shifted-exp:SHIFT,MEAN, as in shifted-exp:5ms,20ms");
    } else if (name == "pareto") {
        expect(two && set(Kind::pareto, parse_number<double>(arguments[0]), time(1)) && model.first_ > 0,
               "pareto:SHAPE,SCALE with SHAPE > 0, as in pareto:1.5,10ms");
    } else if (name == "slow") {
        const auto count = parse_number<std::uint32_t>(arguments[0]);
        expect(two && count && set(Kind::slow, 0, parse_number<double>(arguments[1])),
               "slow:COUNT,FACTOR, as in slow:2,4");
        expect(model.second_ >= 1, "slow:COUNT,FACTOR with FACTOR ≥ 1, as in slow:2,4");
        model.slow_count_ = *count;
    } else if (name == "bimodal") {
        expect(two && set(Kind::bimodal, parse_number<double>(arguments[0]), parse_number<double>(arguments[1])) &&
                   model.first_ >= 0 && model.first_ <= 1 && model.second_ >= 1,
               "bimodal:PROBABILITY,FACTOR with PROBABILITY from 0 to 1 and FACTOR ≥ 1, as in bimodal:0.1,5");
    } else if (name == "trace") {
        expect(!rest.empty(), "trace:FILE.csv with columns worker, step, seconds");
        model.kind_ = Kind::trace;
        model.trace_ = read_trace(std::string(rest));
    } else {
        expect(false, "none, exp:MEAN, shifted-exp:SHIFT,MEAN, pareto:SHAPE,SCALE, slow:COUNT,FACTOR, "
                      "bimodal:PROBABILITY,FACTOR or trace:FILE.csv");
    }
    return model;
}

std::size_t StraggleModel::workers_min() const {
    return trace_.empty() ? slow_count_ : std::prev(trace_.end())->first.first + std::size_t{1};
}

Duration StraggleModel::delay(WorkerId worker, Step step, std::size_t workers, Duration compute) const {
    RandomStream random(seed_, Purpose::straggle, {worker.value(), step.value()});
    const Duration factor_adds = rounded(static_cast<double>(compute.count()) * (second_ - 1)); // slow, bimodal
    switch (kind_) {
    case Kind::none: return Duration::zero();
    case Kind::exponential: return rounded(1e9 * random.exponential(first_));
    case Kind::shifted_exponential: return rounded(1e9 * (first_ + random.exponential(second_)));
    case Kind::pareto: return rounded(1e9 * random.pareto(first_, second_));
    case Kind::slow: return worker.value() + slow_count_ >= workers ? factor_adds : Duration::zero();
    case Kind::bimodal: return random.uniform() < first_ ? factor_adds : Duration::zero();
    case Kind::trace: {
        const auto found = trace_.find({worker.value(), step.value()});
        return found == trace_.end() ? Duration::zero() : found->second;
    }
    }
    CHECK(false && "unknown straggle model");
}

Duration parse_duration(std::string_view text, std::string_view option, bool bare_seconds) {
    if (const auto parsed = duration(text, bare_seconds)) return *parsed;
    throw InputError(std::string(option) + " " + std::string(text) + ": expected a time " +
                     (bare_seconds ? "in seconds or with a unit, as in 90, 20ms or 2m"
                                   : "with a unit, as in 20ms, 1.5s, 2m or 100us"));
}

} // namespace lategrad
