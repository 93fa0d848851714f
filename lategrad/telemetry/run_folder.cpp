#include "lategrad/telemetry/run_folder.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cmath>
#include <ctime>
#include <limits>
#include <system_error>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>
#include <sys/statvfs.h>

#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"
#include "lategrad/files/file.h"
#include "lategrad/files/mapped_file.h"
#include "lategrad/telemetry/json_text.h"

namespace lategrad {
namespace {

using Path = std::filesystem::path;

constexpr Duration kFlushInterval = std::chrono::seconds(1);
constexpr std::size_t kPendingBytesMax = std::size_t{1} << 20;
constexpr std::size_t kIncarnationBytesMax = 100;
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

std::string error_text(int error) {
    return std::generic_category().message(error);
}

[[noreturn]] void refuse(const Path& path, std::string_view why) {
    throw InputError(fmt::format("--out {}: {}", path.string(), why));
}

[[noreturn]] void refuse_to_overwrite(const Path& path) {
    refuse(path, "already holds a run; choose another folder or remove it");
}

/// Removes again what was made, the newest first, unless told to keep it.
class Undo {
  public:
    ~Undo() {
        std::error_code ignored;
        for (auto made = made_.rbegin(); made != made_.rend(); ++made) std::filesystem::remove(*made, ignored);
    }
    void made(Path path) { made_.push_back(std::move(path)); }
    void keep() { made_.clear(); }

  private:
    std::vector<Path> made_;
};

/// Makes `folder`, of or above `path`.
void make_folders(const Path& path, const Path& folder, Undo& undo) {
    std::error_code error;
    const auto status = std::filesystem::status(folder, error);
    if (std::filesystem::is_directory(status)) return;
    if (std::filesystem::exists(status)) {
        refuse(path, fmt::format("{} is not a folder; choose another one", folder.string()));
    }
    const Path parent = folder.parent_path();
    if (!parent.empty() && parent != folder) make_folders(path, parent, undo);
    if (std::filesystem::create_directory(folder, error)) undo.made(folder); // "a/" is there as soon as "a" is
    if (error) refuse(path, fmt::format("cannot make the folder {}: {}", folder.string(), error.message()));
}

void check_free_space(const Path& path, std::uint64_t bytes_needed) {
    struct statvfs disk {};
    if (::statvfs(path.c_str(), &disk) != 0) refuse(path, fmt::format("cannot be used: {}", error_text(errno)));
    const std::uint64_t free = std::uint64_t{disk.f_bavail} * disk.f_frsize;
    if (free >= bytes_needed + kMiB) return;
    refuse(path, fmt::format("{} MiB free on its disk, the run needs {} MiB; choose a folder on another one",
                             free / kMiB, (bytes_needed + 2 * kMiB - 1) / kMiB));
}

LineFile create_lines(const Path& path, Undo& undo) {
    try {
        LineFile file = LineFile::create(path);
        undo.made(path);
        return file;
    } catch (const std::system_error& error) {
        if (error.code() == std::errc::file_exists) refuse_to_overwrite(path.parent_path());
        refuse(path.parent_path(), fmt::format("cannot write to it: {}", error.code().message()));
    }
}

/// Fit for a part of a folder's name: letters, digits, '.' and '-'.
std::string name_part(std::string text) {
    for (char& c : text) {
        if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.') c = '-';
    }
    return text;
}

void append_evaluation_line(std::string& out, const Evaluation& evaluation) {
    out += fmt::format("{{\"version\":{},\"seconds\":", evaluation.version.value());
    append_seconds(out, evaluation.at);
    out += fmt::format(",\"examples\":{},\"accuracy\":", evaluation.examples_applied);
    append_number(out, evaluation.accuracy.value_or(NAN));
    out += ",\"loss\":";
    append_number(out, evaluation.loss);
    out += "}\n";
}

} // namespace

RunFolder::RunFolder(Path path, LineFile events, LineFile evaluations, Warn warn)
    : path_(std::move(path)),
      event_lines_(std::move(events)),
      evaluation_lines_(std::move(evaluations)),
      warn_(std::move(warn)) {
    if (!warn_) warn_ = [](const std::string& text) { spdlog::warn("{}", text); };
}

RunFolder RunFolder::create(const Path& path, std::string_view config_toml, const FingerprintFields& fingerprint,
                            std::uint64_t bytes_needed, Warn warn) {
    Undo undo;
    make_folders(path, path, undo);
    for (const char* name : {"config.toml", "fingerprint.json", "events.jsonl", "evaluations.jsonl", "summary.json",
                             "weights.safetensors", "trace.json"}) {
        std::error_code error;
        if (std::filesystem::exists(path / name, error)) refuse_to_overwrite(path);
    }
    check_free_space(path, bytes_needed);
    // Of two runs that choose one folder at once, the one that makes this file has it.
    LineFile events = create_lines(path / "events.jsonl", undo);
    RunFolder folder(path, std::move(events), create_lines(path / "evaluations.jsonl", undo), std::move(warn));
    try {
        undo.made(folder.config());
        write_file_atomically(folder.config(), config_toml);
        undo.made(folder.fingerprint());
        write_file_atomically(folder.fingerprint(), nlohmann::json(fingerprint).dump(2) + "\n");
    } catch (const EnvironmentError& error) { // of a folder the user chose
        refuse(path, error.what());
    }
    undo.keep();
    return folder;
}

namespace {

/// Ends the file behind its first `lines` lines; the rest moves to the first rolled-back-R.jsonl that is free.
void roll_back(const Path& path, std::uint64_t lines) {
    const Path events = path / "events.jsonl";
    std::size_t kept = 0;
    {
        const MappedFile file(events);
        const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
        for (std::uint64_t line = 0; line < lines; ++line) {
            const std::size_t end = text.find('\n', kept);
            if (end == std::string_view::npos) {
                throw InputError(fmt::format(
                    "--resume {}: events.jsonl has {} of the {} events that the checkpoint knows; was it cut short?",
                    path.string(), line, lines));
            }
            kept = end + 1;
        }
        if (kept == text.size()) return;
        int number = 1;
        while (std::filesystem::exists(path / fmt::format("rolled-back-{}.jsonl", number))) ++number;
        write_file_atomically(path / fmt::format("rolled-back-{}.jsonl", number), text.substr(kept));
    }
    // Should this not come about, the same lines are rolled back once more, and none is lost.
    std::error_code error;
    std::filesystem::resize_file(events, kept, error);
    if (error) throw write_error(events, error.value());
}

LineFile append_lines(const Path& path, const char* name) {
    try {
        return LineFile::append(path / name);
    } catch (const std::system_error& error) {
        const bool busy = error.code() == std::errc::resource_unavailable_try_again;
        throw InputError(fmt::format("--resume {}: {}", path.string(),
                                     busy ? "another process writes to this run; end it first"
                                          : fmt::format("{}: {}", name, error.code().message())));
    }
}

} // namespace

Incarnation RunFolder::begin_incarnation(Incarnation known) {
    const Path file = path_ / "incarnation";
    Incarnation newest = known;
    if (std::filesystem::exists(file)) {
        const std::vector<std::byte> bytes = read_file(file, kIncarnationBytesMax);
        const auto number =
            parse_number<std::uint32_t>(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
        if (!number) throw InputError(fmt::format("{}: expected a number and nothing else", file.string()));
        newest = std::max(newest, Incarnation{*number});
    }
    newest = newest.next();
    write_file_atomically(file, fmt::format("{}", newest.value()));
    return newest;
}

RunFolder RunFolder::resume(const Path& path, std::string_view config_toml, std::uint64_t events,
                            const std::function<void(const RunEvent&)>& kept, Warn warn) {
    require_run_folder(path);
    LineFile lines = append_lines(path, "events.jsonl");
    roll_back(path, events);
    std::string evaluations;
    std::vector<RunEvent> since_update; // for the drops that the next update lists
    read_events(path / "events.jsonl", [&](RunEvent event) {
        kept(event);
        if (const auto* evaluation = std::get_if<Evaluation>(&event.body)) {
            append_evaluation_line(evaluations, *evaluation);
        }
        if (std::holds_alternative<UpdateEvent>(event.body)) since_update.clear();
        if (std::holds_alternative<ArriveEvent>(event.body)) since_update.push_back(std::move(event));
    });
    write_file_atomically(path / "evaluations.jsonl", evaluations);
    write_file_atomically(path / "config.toml", config_toml);
    for (const char* end : {"summary.json", "trace.json", "weights.safetensors"}) std::filesystem::remove(path / end);
    RunFolder folder(path, std::move(lines), append_lines(path, "evaluations.jsonl"), std::move(warn));
    for (const RunEvent& event : since_update) folder.note_dropped(event);
    return folder;
}

void RunFolder::tell(const RunEvent& event) {
    if (damaged_) return;
    append_json_line(event_lines_.pending(), event, dropped_);
    event_lines_.pending() += '\n';

    note_dropped(event);
    const auto* evaluation = std::get_if<Evaluation>(&event.body);
    if (evaluation) append_evaluation_line(evaluation_lines_.pending(), *evaluation);

    if (evaluation || std::holds_alternative<EndEvent>(event.body) || event.at - flushed_at_ >= kFlushInterval ||
        event_lines_.pending().size() >= kPendingBytesMax) {
        flush(event.at);
    }
}

void RunFolder::note_dropped(const RunEvent& event) {
    const auto* arrive = std::get_if<ArriveEvent>(&event.body);
    if (arrive && arrive->fate == Fate::drop) {
        dropped_.push_back({arrive->worker, arrive->step, arrive->base, arrive->reason});
    }
    if (std::holds_alternative<UpdateEvent>(event.body)) dropped_.clear();
}

void RunFolder::flush(Time now) {
    event_lines_.flush();
    evaluation_lines_.flush();
    flushed_at_ = now;
    notice_damage();
}

void RunFolder::notice_damage() {
    const int error = event_lines_.error() != 0 ? event_lines_.error() : evaluation_lines_.error();
    if (error == 0 || damaged_) return;
    damaged_ = true;
    warn_(fmt::format("{}: cannot write the run's events any more: {}; the run goes on without recording them, and "
                      "without checkpoints",
                      path_.string(), error_text(error)));
}

void RunFolder::finish(const Summary& summary) {
    event_lines_.close();
    evaluation_lines_.close();
    notice_damage();
    write_file_atomically(this->summary(), to_json(summary) + "\n");
}

Path new_run_path(std::string_view model, std::string_view policy, std::chrono::system_clock::time_point now) {
    const std::tm local = fmt::localtime(std::chrono::system_clock::to_time_t(now));
    const Path first = Path("runs") / fmt::format("{:%Y%m%d-%H%M%S}-{}-{}", local,
                                                  name_part(Path(model).stem().string()), // of a file, or all of it
                                                  name_part(std::string(policy)));
    Path path = first;
    for (int i = 2; std::filesystem::exists(path); ++i) path = fmt::format("{}-{}", first.string(), i);
    return path;
}

} // namespace lategrad
