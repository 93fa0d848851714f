/// Reads a run's folder while the run goes on, and holds it to account when it is over.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "tests/chaos/checker.h"

namespace lategrad::chaos {

/// Follows events.jsonl. Where the server is killed and resumed, the file goes back to a checkpoint, and so does the
/// checker.
class EventTail {
  public:
    EventTail(std::filesystem::path events_jsonl, std::size_t quorum);

    /// Reads what is new. `each` is told every line once; what a resume takes back was told, and is not told again.
    /// True where there was something.
    bool read(const std::function<void(const Line&)>& each);
    /// The server was killed: nothing counts until a new resume line is there, whatever happens to the file meanwhile.
    void expect_resume() { resuming_ = true; }
    bool resuming() const { return resuming_; }

    const Checker& checker() const { return checker_; }
    Checker& checker() { return checker_; }
    /// Lines that could not be read.
    const std::vector<Violation>& violations() const { return violations_; }
    /// What stands behind the last newline.
    const std::string& unfinished() const { return unfinished_; }

  private:
    struct Snapshot {
        std::uint64_t offset;
        Checker checker;
    };
    bool find_resume();
    void feed(std::uint64_t until, const std::function<void(const Line&)>* each);
    void take(const std::string& line, const std::function<void(const Line&)>* each);

    std::filesystem::path path_;
    Checker checker_;
    std::vector<Violation> violations_;
    std::uint64_t offset_ = 0; ///< of the first byte that was not read
    std::uint64_t lines_ = 0;
    std::string unfinished_;
    std::deque<Snapshot> snapshots_; ///< the first one is the beginning
    bool resuming_ = false;
    std::set<std::string> resumes_; ///< the lines that were found
};

/// Names the first float of a file of tensors that is not finite; empty: there is none. Throws InputError.
std::string not_finite(const std::filesystem::path& file);

/// What must be true of the folder of a run that has ended: no line and no file is half written, all weights are
/// finite. `reread`: events.jsonl once more from its beginning, as a resumed run needs. Violations name the file.
std::vector<std::string> check_folder(const std::filesystem::path& run, std::size_t quorum, bool reread);

/// The summary, or what is wrong with it.
std::optional<Summary> read_summary(const std::filesystem::path& run, std::string& wrong);

} // namespace lategrad::chaos
