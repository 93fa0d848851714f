#include "lategrad/sim/failures.h"

#include <algorithm>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"
#include "lategrad/core/quantity.h"
#include "lategrad/core/random.h"
#include "lategrad/files/csv.h"

namespace lategrad {
namespace {

constexpr std::string_view kOption = "--failures";

std::vector<ScriptedFailure> read_script(const std::string& file) {
    std::vector<ScriptedFailure> script;
    read_csv(file, {"seconds", "worker", "event"}, [&](const CsvRow& row) {
        const auto at = parse_number<double>(row[0]);
        const auto worker = parse_number<std::uint32_t>(row[1]);
        if (!at || *at < 0 || *at > kSecondsMax)
            row.fail(fmt::format("seconds '{}' is not a time from 0 to 1e9", row[0]));
        if (!worker) row.fail(fmt::format("worker '{}' is not a number of a worker: 0, 1, …", row[1]));
        if (row[2] != "leave" && row[2] != "join") {
            row.fail(fmt::format("event '{}' is neither leave nor join", row[2]));
        }
        script.push_back({from_seconds(*at), WorkerId{*worker}, row[2] == "leave"});
    });
    std::stable_sort(script.begin(), script.end(),
                     [](const ScriptedFailure& a, const ScriptedFailure& b) { return a.at < b.at; });
    std::set<WorkerId> gone;
    for (const ScriptedFailure& failure : script) {
        const bool fits = failure.leaves ? gone.insert(failure.worker).second : gone.erase(failure.worker) == 1;
        if (!fits) {
            throw InputError(fmt::format("{} script:{}: at {:g} s worker {} {}", kOption, file, seconds(failure.at),
                                         failure.worker.value(),
                                         failure.leaves ? "leaves and has left before" : "joins and is there"));
        }
    }
    return script;
}

} // namespace

FailureModel FailureModel::parse(std::string_view spec, std::uint64_t seed) {
    FailureModel model;
    model.seed_ = seed;
    if (spec == "none") return model;
    constexpr std::string_view kScript = "script:";
    if (spec.starts_with(kScript) && spec.size() > kScript.size()) {
        model.script_ = read_script(std::string(spec.substr(kScript.size())));
        return model;
    }
    bool rejoins = false;
    bool known = true;
    for (const std::string_view part : split(spec, ',')) {
        const std::size_t colon = part.find(':');
        const std::string_view name = part.substr(0, colon);
        const std::string_view value = colon == part.npos ? std::string_view() : part.substr(colon + 1);
        if (name == "mtbf") {
            model.mtbf_ = seconds(parse_duration(value, kOption, false, spec));
            model.random_ = true;
        } else if (name == "rejoin") {
            model.rejoin_ = parse_duration(value, kOption, false, spec);
            rejoins = true;
        } else if (name == "detect") {
            model.detect_ = parse_duration(value, kOption, false, spec);
        } else {
            known = false;
        }
    }
    if (!known || !model.random_ || !rejoins) {
        throw InputError(fmt::format("{} {}: expected none, mtbf:MEAN,rejoin:TIME[,detect:TIME], as in "
                                     "mtbf:60s,rejoin:10s, or script:FILE.csv",
                                     kOption, spec));
    }
    if (model.mtbf_ <= 0) throw InputError(fmt::format("{} {}: mtbf: expected a time above 0", kOption, spec));
    return model;
}

Duration FailureModel::lifetime(WorkerId worker, std::uint64_t life) const {
    RandomStream random(seed_, Purpose::failures, {worker.value(), life});
    return from_seconds(std::min(random.exponential(mtbf_), kSecondsMax));
}

std::size_t FailureModel::workers_min() const {
    std::size_t most = 0;
    for (const ScriptedFailure& failure : script_) most = std::max(most, failure.worker.value() + std::size_t{1});
    return most;
}

} // namespace lategrad
