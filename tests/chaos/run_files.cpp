#include "tests/chaos/run_files.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <utility>

#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/files/safetensors.h"

namespace lategrad::chaos {
namespace {

constexpr std::uint64_t kBlock = 1 << 20;
constexpr std::uint64_t kSnapshotEvery = 4 << 20;
constexpr std::size_t kSnapshotsMax = 64;
constexpr std::uint64_t kResumeWithin = 8 << 20; ///< of the end of the file
constexpr std::size_t kUnreadableMax = 10;

std::uint64_t size_of(const std::filesystem::path& path) {
    std::error_code missing;
    const auto size = std::filesystem::file_size(path, missing);
    return missing ? 0 : size;
}

std::string text_between(const std::filesystem::path& path, std::uint64_t from, std::uint64_t to) {
    std::string text(to - from, '\0');
    std::ifstream in(path, std::ios::binary);
    in.seekg(static_cast<std::streamoff>(from));
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(std::max<std::streamsize>(0, in.gcount())));
    return text;
}

} // namespace

std::string not_finite(const std::filesystem::path& file) {
    const SafetensorsFile tensors(file);
    for (const auto& [name, entry] : tensors.tensors()) {
        if (entry.dtype != "F32") continue;
        const auto values = tensors.floats(name);
        const auto found = std::ranges::find_if(values, [](float value) { return !std::isfinite(value); });
        if (found != values.end()) {
            return fmt::format("{}: {}[{}] is not finite", file.string(), name, found - values.begin());
        }
    }
    return {};
}

EventTail::EventTail(std::filesystem::path events_jsonl, std::size_t quorum)
    : path_(std::move(events_jsonl)),
      checker_(quorum) {
    snapshots_.push_back({0, checker_});
}

bool EventTail::read(const std::function<void(const Line&)>& each) {
    if (resuming_ && !find_resume()) return false;
    const std::uint64_t before = offset_;
    feed(size_of(path_), &each);
    return offset_ > before;
}

/// The resume line is the proof that what the run went back over is gone from the file. What stands before it was read
/// before, up to a checkpoint.
bool EventTail::find_resume() {
    const std::uint64_t size = size_of(path_);
    const std::uint64_t from = size > kResumeWithin ? size - kResumeWithin : 0;
    const std::string text = text_between(path_, from, size);
    constexpr std::string_view begin = "\n{\"type\":\"resume\"";
    const std::size_t found = text.rfind(begin);
    if (found == text.npos) return false;
    const std::size_t end = text.find('\n', found + 1);
    if (end == text.npos) return false;
    const std::string line = text.substr(found + 1, end - found - 1);
    if (!resumes_.insert(line).second) return false; // of a server before; that of the last one may be taken back
    resuming_ = false;
    const std::uint64_t resume_at = from + found + 1;
    while (snapshots_.size() > 1 && snapshots_.back().offset > resume_at) snapshots_.pop_back();
    const std::vector<Violation> seen = checker_.violations();
    offset_ = snapshots_.back().offset;
    checker_ = snapshots_.back().checker;
    lines_ = checker_.lines();
    unfinished_.clear();
    feed(resume_at, nullptr);
    // What was wrong in the part that is taken back was wrong nevertheless.
    for (const Violation& violation : seen) {
        if (violation.line > lines_) violations_.push_back(violation);
    }
    return true;
}

void EventTail::feed(std::uint64_t until, const std::function<void(const Line&)>* each) {
    while (offset_ < until) {
        const std::string text = text_between(path_, offset_, std::min(until, offset_ + kBlock));
        if (text.empty()) return;
        for (std::size_t begin = 0; begin < text.size();) {
            const std::size_t end = text.find('\n', begin);
            unfinished_ += text.substr(begin, end - begin);
            offset_ += (end == text.npos ? text.size() : end + 1) - begin;
            if (end == text.npos) break;
            begin = end + 1;
            take(std::exchange(unfinished_, {}), each);
        }
    }
}

void EventTail::take(const std::string& text, const std::function<void(const Line&)>* each) {
    ++lines_;
    Line line;
    try {
        line = parse_line(text);
    } catch (const InputError& error) {
        if (violations_.size() < kUnreadableMax) {
            violations_.push_back({fmt::format("{}: \"{}\"", error.what(), text.substr(0, 80)), lines_});
        }
        return;
    }
    checker_.tell(line);
    if (each) (*each)(line);
    const bool checkpoint = std::holds_alternative<CheckpointLine>(line);
    if (!checkpoint && offset_ < snapshots_.back().offset + kSnapshotEvery) return;
    snapshots_.push_back({offset_, checker_});
    if (snapshots_.size() > kSnapshotsMax) snapshots_.erase(snapshots_.begin() + 1);
}

std::optional<Summary> read_summary(const std::filesystem::path& run, std::string& wrong) {
    const auto path = run / "summary.json";
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    try {
        return parse_summary(text.str());
    } catch (const InputError& error) {
        wrong = path.string() + ": " + error.what();
        return std::nullopt;
    }
}

std::vector<std::string> check_folder(const std::filesystem::path& run, std::size_t quorum, bool reread) {
    std::vector<std::string> wrong;
    std::error_code missing;
    if (!std::filesystem::exists(run / "weights.safetensors", missing)) {
        wrong.push_back((run / "weights.safetensors").string() + ": is not there");
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(run, missing)) {
        const std::string name = entry.path().filename().string();
        if (name.find(".tmp") != name.npos) wrong.push_back(entry.path().string() + ": left half written");
        if (entry.path().extension() == ".safetensors") {
            try {
                const std::string what = not_finite(entry.path());
                if (!what.empty()) wrong.push_back(what);
            } catch (const InputError& error) {
                wrong.push_back(error.what());
            }
        }
        // The server was killed behind these: their last line may be cut.
        if (name.starts_with("rolled-back-")) {
            EventTail tail(entry.path(), quorum);
            tail.read([](const Line&) {});
            for (const Violation& violation : tail.violations()) {
                wrong.push_back(fmt::format("{}:{}: {}", entry.path().string(), violation.line, violation.what));
            }
        }
    }
    if (reread) {
        EventTail tail(run / "events.jsonl", quorum);
        tail.read([](const Line&) {});
        std::string bad;
        if (const auto summary = read_summary(run, bad)) tail.checker().finish(*summary);
        for (const auto* violations : {&tail.violations(), &tail.checker().violations()}) {
            for (const Violation& violation : *violations) {
                wrong.push_back(
                    fmt::format("{}:{}: {}", (run / "events.jsonl").string(), violation.line, violation.what));
            }
        }
    }
    return wrong;
}

} // namespace lategrad::chaos
