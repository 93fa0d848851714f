#include <algorithm>
#include <fstream>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "lategrad/core/error.h"
#include "lategrad/files/file.h"
#include "lategrad/telemetry/json_fields.h"
#include "lategrad/telemetry/run_folder.h"

namespace lategrad {
namespace {

using Path = std::filesystem::path;

/// config.toml, fingerprint.json, summary.json.
constexpr std::size_t kTextBytesMax = std::size_t{16} << 20;

std::string read_text(const Path& path) {
    const std::vector<std::byte> bytes = read_file(path, kTextBytesMax);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// What `parse` makes of the file's text; names the file where it complains.
template <class Parse>
auto parse_file(const Path& path, Parse parse) {
    const std::string text = read_text(path);
    try {
        return parse(text);
    } catch (const InputError& error) {
        throw InputError(fmt::format("{}: {}", path.string(), error.what()));
    }
}

/// Calls `take(parse(line))` for every line; names file and line where `parse` complains. Lines are written with a
/// newline, so a last one without may be cut short: true where `parse` complains of that one.
template <class Parse, class Take>
bool read_lines(const Path& path, Parse parse, Take take) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw InputError(fmt::format("{}: cannot be opened; is it in a run folder?", path.string()));
    std::string line;
    for (std::size_t number = 1; std::getline(file, line); ++number) {
        std::optional<decltype(parse(line))> parsed;
        try {
            parsed = parse(line);
        } catch (const InputError& error) {
            if (file.eof()) return true;
            throw InputError(fmt::format("{}:{}: {}", path.string(), number, error.what()));
        }
        take(*std::move(parsed));
    }
    if (file.bad()) throw InputError(fmt::format("{}: cannot be read", path.string()));
    return false;
}

} // namespace

FingerprintFields parse_fingerprint(std::string_view text) {
    const nlohmann::json json = parse_json_object(text);
    const JsonFields fields(json);
    FingerprintFields fingerprint;
    for (const auto& item : json.items()) fingerprint[item.key()] = fields.text(item.key().c_str());
    return fingerprint;
}

EvaluationLine parse_evaluation_line(std::string_view line) {
    const nlohmann::json json = parse_json_object(line);
    const JsonFields fields(json);
    return {.version = fields.id<Version>("version"),
            .seconds = fields.number("seconds"),
            .examples = fields.integer("examples"),
            .accuracy = fields.optional_number("accuracy"),
            .loss = fields.number("loss")};
}

bool read_events(const Path& events_jsonl, const std::function<void(RunEvent)>& each) {
    return read_lines(events_jsonl, parse_json_line, each);
}

void require_run_folder(const Path& path) {
    std::error_code error;
    if (std::filesystem::exists(path / "config.toml", error)) return;
    std::vector<std::string> runs;
    for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
        if (std::filesystem::exists(entry.path() / "config.toml", error)) runs.push_back(entry.path().string());
    }
    std::sort(runs.begin(), runs.end());
    throw InputError(runs.empty() ? fmt::format("{}: no run folder: it has no config.toml", path.string())
                                  : fmt::format("{}: holds several runs; name one of them: {}", path.string(),
                                                fmt::join(runs, ", ")));
}

Path weights_of_run(const Path& path) {
    require_run_folder(path);
    Path weights = path / "weights.safetensors";
    std::error_code error;
    if (std::filesystem::exists(weights, error)) return weights;
    throw InputError(fmt::format("{}: the run did not end: it has no weights.safetensors", path.string()));
}

FingerprintFields read_fingerprint(const Path& run) {
    return parse_file(run / "fingerprint.json", parse_fingerprint);
}

RecordedRun read_run(const Path& path) {
    require_run_folder(path);
    RecordedRun run;
    run.config_toml = read_text(path / "config.toml");
    run.fingerprint = read_fingerprint(path);
    run.truncated =
        read_events(path / "events.jsonl", [&run](RunEvent event) { run.events.push_back(std::move(event)); });
    run.truncated |= read_lines(path / "evaluations.jsonl", parse_evaluation_line,
                                [&run](EvaluationLine line) { run.evaluations.push_back(line); });
    if (std::filesystem::exists(path / "summary.json")) run.summary = parse_file(path / "summary.json", parse_summary);
    return run;
}

} // namespace lategrad
