/// Whatever line of events.jsonl, or whatever summary.json, is read is written again so that it reads the same. Of a
/// run folder's other two files each text is read, or refused.
#include <nlohmann/json.hpp>

#include "lategrad/telemetry/event_json.h"
#include "lategrad/telemetry/run_folder.h"
#include "lategrad/telemetry/summary.h"
#include "tests/fuzz/file.h"
#include "tests/telemetry/example_run.h"

namespace lategrad::fuzz {
namespace {

class EventsTarget final : public Target {
  public:
    bool run(unsigned, Bytes bytes) const override {
        return passes({}, [&] {
            const std::string line = to_json_line(parse_json_line(text_in(bytes)));
            CHECK(line.find('\n') == line.npos);
            CHECK(to_json_line(parse_json_line(line)) == line);
        });
    }

    std::vector<Bytes> payloads() const override {
        std::vector<Bytes> out;
        for (const RunEvent& event : example_run()) out.push_back(bytes_in(to_json_line(event)));
        out.push_back(bytes_in(to_json_line({Time{}, LeaveEvent{WorkerId{3}}})));
        return out;
    }
};

class SummaryTarget final : public Target {
  public:
    bool run(unsigned, Bytes bytes) const override {
        return passes({}, [&] {
            const std::string text = to_json(parse_summary(text_in(bytes)));
            CHECK(to_json(parse_summary(text)) == text);
        });
    }

    std::vector<Bytes> payloads() const override {
        SummaryBuilder builder({.policy = "reuse", .workers = 2, .wait_for = 1, .model = "m\xc3\xa9", .codec = "none"});
        std::vector<Bytes> out{bytes_in(to_json(builder.summary()))};
        for (const RunEvent& event : example_run()) builder.tell(event);
        Summary simulated = builder.summary();
        simulated.server_load = {.receiving = 0.5, .sending = 0.25, .updating = 1e-9};
        out.push_back(bytes_in(to_json(simulated)));
        return out;
    }
};

class EvaluationsTarget final : public Target {
  public:
    bool run(unsigned, Bytes bytes) const override {
        return passes({}, [&] { parse_evaluation_line(text_in(bytes)); });
    }

    std::vector<Bytes> payloads() const override {
        return {bytes_in(R"({"version":3,"seconds":1.5,"examples":640,"accuracy":0.875,"loss":0.25})"),
                bytes_in(R"({"version":0,"seconds":0,"examples":0,"accuracy":null,"loss":null})")};
    }
};

class FingerprintTarget final : public Target {
  public:
    bool run(unsigned, Bytes bytes) const override {
        return passes({}, [&] {
            const FingerprintFields fields = parse_fingerprint(text_in(bytes));
            CHECK(parse_fingerprint(nlohmann::json(fields).dump()) == fields);
        });
    }

    std::vector<Bytes> payloads() const override {
        return {bytes_in(R"({"cpu":"a \"b\" c","libtorch":"1.13.0"})"), bytes_in("{}")};
    }
};

} // namespace

std::unique_ptr<Target> make_records_target(const std::string& spec) {
    if (spec == "evaluations") return std::make_unique<EvaluationsTarget>();
    return std::make_unique<FingerprintTarget>();
}

std::unique_ptr<Target> make_events_target(const std::string&) {
    return std::make_unique<EventsTarget>();
}

std::unique_ptr<Target> make_summary_target(const std::string&) {
    return std::make_unique<SummaryTarget>();
}

} // namespace lategrad::fuzz
