#include "lategrad/telemetry/summary.h"

#include <algorithm>
#include <bit>

#include "lategrad/telemetry/json_fields.h"

namespace lategrad {

std::string to_json(const Summary& summary) {
    const auto optional = [](const std::optional<double>& value) -> nlohmann::ordered_json {
        return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json();
    };
    nlohmann::ordered_json json;
    json["policy"] = summary.policy;
    json["workers"] = summary.workers;
    json["wait_for"] = summary.wait_for;
    json["updates"] = summary.updates;
    json["seconds"] = summary.seconds;
    json["accuracy"] = optional(summary.accuracy);
    json["loss"] = optional(summary.loss);
    json["pushed"] = summary.pushed;
    json["applied"] = summary.applied;
    json["dropped"] = summary.dropped;
    json["held"] = summary.held;
    json["lost"] = summary.lost;
    json["staleness_mean"] = summary.staleness_mean;
    json["staleness_max"] = summary.staleness_max;
    json["bytes_received"] = summary.bytes_received;
    json["bytes_sent"] = summary.bytes_sent;
    json["outcome"] = to_string(summary.outcome);
    json["best_accuracy"] = optional(summary.best_accuracy);
    json["examples_applied"] = summary.examples_applied;
    json["late_applied"] = summary.late_applied;
    json["staleness_histogram"] = summary.staleness_histogram;
    json["work_used"] = summary.work_used;
    json["stray"] = summary.stray;
    json["data_coverage"] = optional(summary.data_coverage);
    json["model"] = summary.model;
    json["data"] = summary.data;
    json["transport"] = summary.transport;
    json["codec"] = summary.codec;
    json["publish_codec"] = summary.publish_codec;
    if (const auto& load = summary.server_load) {
        json["server_receiving"] = load->receiving;
        json["server_sending"] = load->sending;
        json["server_updating"] = load->updating;
    }
    if (!summary.faults.empty()) json["faults"] = summary.faults;
    // Options may hold bytes that are not UTF-8 (a file's name): those are replaced rather than lost with all the rest.
    return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

namespace {

std::vector<std::uint64_t> histogram_of(const JsonFields& fields) {
    std::vector<std::uint64_t> counts;
    for (const nlohmann::json& count : fields.array("staleness_histogram")) {
        if (!count.is_number_unsigned()) throw InputError("field \"staleness_histogram\" holds more than counts");
        counts.push_back(count.get<std::uint64_t>());
    }
    return counts;
}

std::optional<ServerLoad> load_of(const nlohmann::json& json, const JsonFields& fields) {
    if (!json.contains("server_receiving")) return std::nullopt;
    return ServerLoad{.receiving = fields.number("server_receiving"),
                      .sending = fields.number("server_sending"),
                      .updating = fields.number("server_updating")};
}

std::map<std::string, std::uint64_t> faults_of(const nlohmann::json& json) {
    std::map<std::string, std::uint64_t> faults;
    if (!json.contains("faults")) return faults;
    const nlohmann::json& found = json["faults"];
    if (!found.is_object()) throw InputError("field \"faults\" is no object");
    for (const auto& [kind, count] : found.items()) {
        if (!count.is_number_unsigned()) throw InputError("field \"faults\" holds more than counts");
        faults.emplace(kind, count.get<std::uint64_t>());
    }
    return faults;
}

} // namespace

Summary parse_summary(std::string_view text) {
    const nlohmann::json json = parse_json_object(text);
    const JsonFields fields(json);
    return {.policy = fields.text("policy"),
            .workers = fields.integer<std::uint32_t>("workers"),
            .wait_for = fields.integer<std::uint32_t>("wait_for"),
            .updates = fields.integer("updates"),
            .seconds = fields.number("seconds"),
            .accuracy = fields.optional_number("accuracy"),
            .loss = fields.optional_number("loss"),
            .pushed = fields.integer("pushed"),
            .applied = fields.integer("applied"),
            .dropped = fields.integer("dropped"),
            .held = fields.integer("held"),
            .lost = fields.integer("lost"),
            .staleness_mean = fields.number("staleness_mean"),
            .staleness_max = fields.integer("staleness_max"),
            .bytes_received = fields.integer("bytes_received"),
            .bytes_sent = fields.integer("bytes_sent"),
            .outcome = fields.word("outcome", Outcome::diverged),
            .best_accuracy = fields.optional_number("best_accuracy"),
            .examples_applied = fields.integer("examples_applied"),
            .late_applied = fields.integer("late_applied"),
            .staleness_histogram = histogram_of(fields),
            .work_used = fields.number("work_used"),
            .stray = fields.integer("stray"),
            .data_coverage = json.contains("data_coverage") ? fields.optional_number("data_coverage") : std::nullopt,
            .model = fields.text("model"),
            .data = fields.text("data"),
            .transport = fields.text("transport"),
            .codec = fields.text("codec"),
            .publish_codec = json.contains("publish_codec") ? fields.text("publish_codec") : "none",
            .server_load = load_of(json, fields),
            .faults = faults_of(json)};
}

void SummaryBuilder::tell(const RunEvent& event) {
    // Evaluations may come after the end of the run; its time is the end's.
    if (summary_.outcome == Outcome::running) summary_.seconds = seconds(event.at);

    if (std::holds_alternative<AssignEvent>(event.body)) {
        ++summary_.pushed;
    } else if (const auto* arrive = std::get_if<ArriveEvent>(&event.body)) {
        ++arrived_;
        if (arrive->fate == Fate::drop) ++summary_.dropped;
    } else if (const auto* lost = std::get_if<LostEvent>(&event.body)) {
        ++summary_.lost;
        if (lost->reason == Reason::cancelled) ++cancelled_;
    } else if (const auto* update = std::get_if<UpdateEvent>(&event.body)) {
        on_update(*update);
    } else if (const auto* evaluation = std::get_if<Evaluation>(&event.body)) {
        on_evaluation(*evaluation);
    } else if (const auto* end = std::get_if<EndEvent>(&event.body)) {
        summary_.outcome = end->outcome;
    }
    // What was accepted is held until an update applies it, if only for an instant. The events may be out of a file.
    const std::uint64_t settled = summary_.applied + summary_.dropped;
    summary_.held = arrived_ > settled ? arrived_ - settled : 0;
    const std::uint64_t computed = arrived_ + cancelled_;
    summary_.work_used = computed == 0 ? 0 : static_cast<double>(summary_.applied) / static_cast<double>(computed);
}

void SummaryBuilder::on_update(const UpdateEvent& update) {
    ++summary_.updates;
    summary_.applied += update.applied.size();
    for (const AppliedGradient& gradient : update.applied) {
        const std::uint64_t staleness = update.version - gradient.base;
        if (staleness > 0) ++summary_.late_applied;
        staleness_sum_ += staleness;
        const auto bin = static_cast<std::size_t>(std::bit_width(staleness));
        auto& histogram = summary_.staleness_histogram;
        if (bin >= histogram.size()) histogram.resize(bin + 1, 0);
        ++histogram[bin];
        summary_.staleness_max = std::max(summary_.staleness_max, staleness);
    }
    if (summary_.applied > 0) {
        summary_.staleness_mean = static_cast<double>(staleness_sum_) / static_cast<double>(summary_.applied);
    }
    summary_.examples_applied = update.examples_applied;
    summary_.bytes_received = update.bytes_received;
    summary_.bytes_sent = update.bytes_sent;
}

void SummaryBuilder::on_evaluation(const Evaluation& evaluation) {
    if (evaluation.accuracy) {
        summary_.best_accuracy = std::max(summary_.best_accuracy.value_or(0), *evaluation.accuracy);
    }
    if (last_evaluated_ && evaluation.version < *last_evaluated_) return;
    last_evaluated_ = evaluation.version;
    summary_.accuracy = evaluation.accuracy;
    summary_.loss = evaluation.loss;
}

} // namespace lategrad
