#include "lategrad/telemetry/trace.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <string_view>

#include <fmt/format.h>

#include "lategrad/files/file.h"
#include "lategrad/telemetry/json_text.h"

namespace lategrad {
namespace {

double microseconds(Time t) {
    return seconds(t) * 1e6;
}

std::string number(double value) {
    std::string text;
    append_number(text, value);
    return text;
}

constexpr std::uint64_t kServerTrack = 0;

std::uint64_t track_of(WorkerId worker) {
    return std::uint64_t{worker.value()} + 1;
}

} // namespace

TraceBuilder::TraceBuilder(std::size_t marks_max) : marks_max_(marks_max) {
    name_track(kServerTrack, "server");
}

void TraceBuilder::tell(const RunEvent& event) {
    if (const auto* assign = std::get_if<AssignEvent>(&event.body)) {
        on_assign(*assign, event.at);
    } else if (const auto* arrive = std::get_if<ArriveEvent>(&event.body)) {
        on_end(arrive->worker, arrive->step, event.at,
               fmt::format(R"("fate":"{}","reason":"{}","loss":{},"compute_seconds":{})", to_string(arrive->fate),
                           to_string(arrive->reason), number(arrive->loss), number(arrive->compute_seconds)));
    } else if (const auto* lost = std::get_if<LostEvent>(&event.body)) {
        on_end(lost->worker, lost->step, event.at,
               fmt::format(R"("fate":"lost","reason":"{}")", to_string(lost->reason)));
    } else if (const auto* update = std::get_if<UpdateEvent>(&event.body)) {
        on_update(*update, event.at);
    }
}

void TraceBuilder::on_assign(const AssignEvent& assign, Time at) {
    const WorkerId worker = assign.worker;
    if (workers_.insert(worker).second) name_track(track_of(worker), fmt::format("worker {}", worker.value()));
    const auto of_worker = open_.lower_bound({worker, Step{}});
    for (auto other = of_worker; other != open_.end() && other->first.first == worker; ++other) {
        if (!other->second.until) other->second.until = at;
    }
    open_[{worker, assign.step}] = {assign.version, at, std::nullopt};
}

void TraceBuilder::on_end(WorkerId worker, Step step, Time at, const std::string& args) {
    const auto found = open_.find({worker, step});
    if (found == open_.end()) return; // the events begin in the middle of a run
    const Open gradient = found->second;
    open_.erase(found);
    if (!has_room()) return;
    fmt::format_to(std::back_inserter(next_entry()),
                   R"({{"ph":"X","pid":0,"tid":{},"ts":{:.3f},"dur":{:.3f},"name":"step {} on v{}",)"
                   R"("args":{{"base_version":{},{}}}}})",
                   track_of(worker), microseconds(gradient.from),
                   microseconds(gradient.until.value_or(at)) - microseconds(gradient.from), step.value(),
                   gradient.version.value(), gradient.version.value(), args);
}

void TraceBuilder::on_update(const UpdateEvent& update, Time at) {
    if (!has_room()) return;
    const auto late = std::count_if(update.applied.begin(), update.applied.end(),
                                    [&](const AppliedGradient& gradient) { return gradient.base < update.version; });
    fmt::format_to(std::back_inserter(next_entry()),
                   R"({{"ph":"i","s":"t","pid":0,"tid":{},"ts":{:.3f},"name":"v{} to v{}",)"
                   R"("args":{{"applied":{},"late":{},"loss":{}}}}})",
                   kServerTrack, microseconds(at), update.version.value(), update.version.next().value(),
                   update.applied.size(), late, number(update.loss));
}

void TraceBuilder::name_track(std::uint64_t track, const std::string& name) {
    fmt::format_to(std::back_inserter(next_entry()),
                   R"({{"ph":"M","pid":0,"tid":{},"name":"thread_name","args":{{"name":"{}"}}}})", track, name);
    fmt::format_to(std::back_inserter(next_entry()),
                   R"({{"ph":"M","pid":0,"tid":{},"name":"thread_sort_index","args":{{"sort_index":{}}}}})", track,
                   track);
}

std::string& TraceBuilder::next_entry() {
    if (!entries_.empty()) entries_ += ",\n";
    return entries_;
}

bool TraceBuilder::has_room() {
    const bool room = marks_ < marks_max_;
    ++(room ? marks_ : left_out_);
    return room;
}

void TraceBuilder::write(const std::filesystem::path& path) const {
    const std::string before = fmt::format("{{\"displayTimeUnit\":\"ms\",\"metadata\":{{\"marks\":{},"
                                           "\"marks_left_out\":{}}},\"traceEvents\":[\n",
                                           marks_, left_out_);
    const std::string_view after = "\n]}\n";
    const auto bytes = [](std::string_view text) { return std::as_bytes(std::span(text)); };
    const std::span<const std::byte> pieces[] = {bytes(before), bytes(entries_), bytes(after)};
    write_file_atomically(path, pieces);
}

} // namespace lategrad
