#include "lategrad/worker/straggle.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <optional>
#include <vector>

#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"
#include "lategrad/core/quantity.h"
#include "lategrad/core/random.h"
#include "lategrad/files/csv.h"

namespace lategrad {
namespace {

/// The bound also keeps a heavy tail within Duration.
Duration rounded(double nanoseconds) {
    return Duration(std::llround(std::min(nanoseconds, kSecondsMax * 1e9)));
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
    const auto time = [&](std::size_t i) { return parse_seconds(arguments[i]); };
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

bool StraggleModel::adds_time(Duration compute) const {
    const bool multiplies = compute > Duration::zero() && second_ > 1;
    switch (kind_) {
    case Kind::none: return false;
    case Kind::exponential: return first_ > 0;
    case Kind::shifted_exponential: return first_ > 0 || second_ > 0;
    case Kind::pareto: return second_ > 0;
    case Kind::slow: return slow_count_ > 0 && multiplies;
    case Kind::bimodal: return first_ > 0 && multiplies;
    case Kind::trace:
        return std::any_of(trace_.begin(), trace_.end(),
                           [](const auto& line) { return line.second > Duration::zero(); });
    }
    CHECK(false && "unknown straggle model");
}

std::size_t StraggleModel::workers_min() const {
    return trace_.empty() ? slow_count_ : std::prev(trace_.end())->first.first + std::size_t{1};
}

std::optional<WorkerId> StraggleModel::missing_in_trace(std::size_t workers) const {
    for (std::uint32_t i = 0; kind_ == Kind::trace && i < workers; ++i) {
        const auto first = trace_.lower_bound({i, 0});
        if (first == trace_.end() || first->first.first != i) return WorkerId{i};
    }
    return std::nullopt;
}

Duration StraggleModel::delay(WorkerId worker, Step step, std::size_t workers, Duration compute) const {
    RandomStream random(seed_, Purpose::straggle, {worker.value(), step.value()});
    const Duration factor_adds = rounded(static_cast<double>(compute.count()) * (second_ - 1)); // slow, bimodal
    switch (kind_) {
    case Kind::none: return Duration::zero();
    case Kind::exponential: return rounded(1e9 * random.exponential(first_));
    case Kind::shifted_exponential: return rounded(1e9 * (first_ + random.exponential(second_)));
    case Kind::pareto: // of no scale: times a tail beyond all numbers, which is none
        return second_ > 0 ? rounded(1e9 * random.pareto(first_, second_)) : Duration::zero();
    case Kind::slow: return worker.value() + slow_count_ >= workers ? factor_adds : Duration::zero();
    case Kind::bimodal: return random.uniform() < first_ ? factor_adds : Duration::zero();
    case Kind::trace: {
        const auto found = trace_.find({worker.value(), step.value()});
        return found == trace_.end() ? Duration::zero() : found->second;
    }
    }
    CHECK(false && "unknown straggle model");
}

} // namespace lategrad
