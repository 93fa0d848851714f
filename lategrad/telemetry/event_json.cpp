#include "lategrad/telemetry/event_json.h"

#include <chrono>
#include <cmath>
#include <iterator>

#include <fmt/compile.h>
#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/telemetry/json_fields.h"
#include "lategrad/telemetry/json_text.h"

namespace lategrad {
namespace {

struct Number {
    double value;
};

struct Seconds {
    Time time;
};

void write(std::string& out, Number number) {
    append_number(out, number.value);
}

void write(std::string& out, Seconds seconds) {
    append_seconds(out, seconds.time);
}

void write(std::string& out, std::uint64_t value) {
    fmt::format_to(std::back_inserter(out), FMT_COMPILE("{}"), value);
}

void write(std::string& out, std::string_view word) {
    (out += '"') += word; // our own words, with nothing to escape
    out += '"';
}

/// What somebody else says, with whatever is in it; the other strings are this program's own words.
struct Text {
    const std::string& text;
};
void write(std::string& out, Text text) {
    out += nlohmann::json(text.text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

template <class Tag, class Rep>
void write(std::string& out, Ordinal<Tag, Rep> id) {
    write(out, std::uint64_t{id.value()});
}

/// Appends `,"name":value`.
template <class Value>
void field(std::string& out, std::string_view name, Value value) {
    ((out += ",\"") += name) += "\":";
    write(out, value);
}

/// Appends `,"name":[…]`, where `write_fields(element)` appends every element's fields, each with its comma before it.
template <class Range, class WriteFields>
void list(std::string& out, std::string_view name, const Range& range, WriteFields write_fields) {
    ((out += ",\"") += name) += "\":[";
    bool first = true;
    for (const auto& element : range) {
        if (!first) out += ',';
        first = false;
        const std::size_t begin = out.size();
        write_fields(element);
        out[begin] = '{'; // instead of the comma
        out += '}';
    }
    out += ']';
}

constexpr std::string_view kOverdue = "overdue";
constexpr std::string_view kSilent = "silent";

/// Appends the fields of one body; the type and the time stand before them.
struct BodyWriter {
    std::string& out;
    Time at;
    std::span<const DroppedGradient> dropped;

    void begin(std::string_view type) const {
        out += "{\"type\":";
        write(out, type);
        field(out, "seconds", Seconds{at});
    }

    void operator()(const JoinEvent& join) const {
        begin("join");
        field(out, "worker", join.worker);
        field(out, "examples", std::uint64_t{join.examples});
        if (!join.from.empty()) field(out, "from", Text{join.from});
    }
    void operator()(const LeaveEvent& leave) const {
        begin("leave");
        field(out, "worker", leave.worker);
    }
    void operator()(const AssignEvent& assign) const {
        begin("assign");
        field(out, "worker", assign.worker);
        field(out, "step", assign.step);
        field(out, "version", assign.version);
        if (!assign.data) return;
        field(out, "part", std::uint64_t{assign.data->part});
        field(out, "position", assign.data->position);
    }
    void operator()(const ArriveEvent& arrive) const {
        begin("arrive");
        field(out, "worker", arrive.worker);
        field(out, "step", arrive.step);
        field(out, "base_version", arrive.base);
        field(out, "fate", to_string(arrive.fate));
        field(out, "reason", to_string(arrive.reason));
        field(out, "loss", Number{arrive.loss});
        field(out, "compute_seconds", Number{arrive.compute_seconds});
    }
    void operator()(const LostEvent& lost) const {
        begin("lost");
        field(out, "worker", lost.worker);
        field(out, "step", lost.step);
        field(out, "reason", to_string(lost.reason));
    }
    void operator()(const UpdateEvent& update) const {
        out += "{\"type\":\"update\"";
        field(out, "version", update.version);
        field(out, "seconds", Seconds{at});
        list(out, "applied", update.applied, [this](const AppliedGradient& gradient) {
            field(out, "worker", gradient.worker);
            field(out, "step", gradient.step);
            field(out, "base_version", gradient.base);
            field(out, "weight", Number{gradient.weight});
            field(out, "examples", std::uint64_t{gradient.examples});
        });
        field(out, "denominator", Number{update.denominator});
        field(out, "learning_rate", Number{update.learning_rate});
        field(out, "loss", Number{update.loss});
        field(out, "examples_applied", update.examples_applied);
        field(out, "bytes_received", update.bytes_received);
        field(out, "bytes_sent", update.bytes_sent);
        list(out, "dropped", dropped, [this](const DroppedGradient& gradient) {
            field(out, "worker", gradient.worker);
            field(out, "step", gradient.step);
            field(out, "base_version", gradient.base);
            field(out, "reason", to_string(gradient.reason));
        });
    }
    void operator()(const Evaluation& evaluation) const {
        begin("evaluate");
        field(out, "version", evaluation.version);
        field(out, "published", Seconds{evaluation.at});
        field(out, "examples_applied", evaluation.examples_applied);
        field(out, "accuracy", Number{evaluation.accuracy.value_or(NAN)});
        field(out, "loss", Number{evaluation.loss});
    }
    void operator()(const EndEvent& end) const {
        begin("end");
        field(out, "outcome", to_string(end.outcome));
    }
    void operator()(const SuspectEvent& suspect) const {
        begin("suspect");
        field(out, "worker", suspect.worker);
        field(out, "reason", suspect.overdue ? kOverdue : kSilent);
    }
    void operator()(const ReturnEvent& returned) const {
        begin("return");
        field(out, "worker", returned.worker);
    }
    void operator()(const ExcludeEvent& excluded) const {
        begin("exclude");
        field(out, "worker", excluded.worker);
        field(out, "reason", to_string(excluded.reason));
    }
    void operator()(const PauseEvent& pause) const {
        begin("pause");
        field(out, "active", std::uint64_t{pause.active});
        field(out, "needed", std::uint64_t{pause.needed});
    }
    void operator()(const ContinueEvent& continued) const {
        begin("continue");
        field(out, "active", std::uint64_t{continued.active});
    }
    void operator()(const ResumeEvent& resumed) const {
        begin("resume");
        field(out, "incarnation", std::uint64_t{resumed.incarnation.value()});
        field(out, "version", resumed.version);
    }
    void operator()(const PartEvent& part) const {
        begin("part");
        field(out, "part", std::uint64_t{part.part});
        field(out, "worker", part.worker);
    }
};

Time read_time(const JsonFields& fields, const char* name) {
    const double value = fields.number(name);
    if (!(value >= 0 && value < 1e9)) throw InputError(fmt::format("field \"{}\" is not a time in seconds", name));
    return Time{std::chrono::microseconds(std::llround(value * 1e6))};
}

Fate read_fate(const JsonFields& fields) {
    return fields.word("fate", Fate::lost);
}

Reason read_reason(const JsonFields& fields) {
    return fields.word("reason", kLastReason);
}

UpdateEvent read_update(const JsonFields& fields) {
    UpdateEvent update{.version = fields.id<Version>("version"),
                       .denominator = fields.number("denominator"),
                       .learning_rate = fields.number("learning_rate"),
                       .loss = fields.number("loss"),
                       .examples_applied = fields.integer("examples_applied"),
                       .bytes_received = fields.integer("bytes_received"),
                       .bytes_sent = fields.integer("bytes_sent")};
    for (const nlohmann::json& element : fields.array("applied")) {
        const JsonFields gradient(element);
        update.applied.push_back({.worker = gradient.id<WorkerId>("worker"),
                                  .step = gradient.id<Step>("step"),
                                  .base = gradient.id<Version>("base_version"),
                                  .examples = gradient.integer<std::uint32_t>("examples"),
                                  .weight = gradient.number("weight")});
        if (update.applied.back().base > update.version)
            throw InputError("field \"applied\" has a gradient on a version that was not there yet");
    }
    return update;
}

RunEventBody read_body(const std::string& type, const JsonFields& fields) {
    if (type == "assign") {
        AssignEvent assign{fields.id<WorkerId>("worker"), fields.id<Step>("step"), fields.id<Version>("version"), {}};
        if (fields.has("part")) {
            assign.data = DataPosition{fields.integer<std::uint32_t>("part"), fields.integer("position")};
        }
        return assign;
    }
    if (type == "arrive") {
        return ArriveEvent{.worker = fields.id<WorkerId>("worker"),
                           .step = fields.id<Step>("step"),
                           .base = fields.id<Version>("base_version"),
                           .fate = read_fate(fields),
                           .reason = read_reason(fields),
                           .loss = fields.number("loss"),
                           .compute_seconds = fields.number("compute_seconds")};
    }
    if (type == "update") return read_update(fields);
    if (type == "lost") {
        return LostEvent{fields.id<WorkerId>("worker"), fields.id<Step>("step"), read_reason(fields)};
    }
    if (type == "evaluate") {
        return Evaluation{.version = fields.id<Version>("version"),
                          .at = read_time(fields, "published"),
                          .examples_applied = fields.integer("examples_applied"),
                          .loss = fields.number("loss"),
                          .accuracy = fields.optional_number("accuracy")};
    }
    if (type == "join") {
        return JoinEvent{fields.id<WorkerId>("worker"), fields.integer<std::uint32_t>("examples"),
                         fields.has("from") ? fields.text("from") : ""};
    }
    if (type == "leave") return LeaveEvent{fields.id<WorkerId>("worker")};
    if (type == "end") return EndEvent{fields.word("outcome", Outcome::diverged)};
    if (type == "suspect") return SuspectEvent{fields.id<WorkerId>("worker"), fields.text("reason") == kOverdue};
    if (type == "return") return ReturnEvent{fields.id<WorkerId>("worker")};
    if (type == "exclude") return ExcludeEvent{fields.id<WorkerId>("worker"), read_reason(fields)};
    if (type == "pause") {
        return PauseEvent{fields.integer<std::size_t>("active"), fields.integer<std::size_t>("needed")};
    }
    if (type == "continue") return ContinueEvent{fields.integer<std::size_t>("active")};
    if (type == "resume") return ResumeEvent{fields.id<Incarnation>("incarnation"), fields.id<Version>("version")};
    if (type == "part") return PartEvent{fields.integer<std::uint32_t>("part"), fields.id<WorkerId>("worker")};
    throw InputError(fmt::format("type \"{}\" is none of join, leave, assign, arrive, lost, update, evaluate, end, "
                                 "suspect, return, exclude, pause, continue, part, resume",
                                 type));
}

} // namespace

void append_json_line(std::string& out, const RunEvent& event, std::span<const DroppedGradient> dropped) {
    std::visit(BodyWriter{out, event.at, dropped}, event.body);
    out += '}';
}

std::string to_json_line(const RunEvent& event, std::span<const DroppedGradient> dropped) {
    std::string line;
    append_json_line(line, event, dropped);
    return line;
}

RunEvent parse_json_line(std::string_view line) {
    const nlohmann::json object = parse_json_object(line);
    const JsonFields fields(object);
    return {read_time(fields, "seconds"), read_body(fields.text("type"), fields)};
}

} // namespace lategrad
