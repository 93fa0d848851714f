/// Writes a run's checkpoints beside the run.
#pragma once

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "cli/training.h"
#include "lategrad/checkpoint/folder.h"
#include "lategrad/node/node.h"

namespace lategrad {

class Checkpointer {
  public:
    /// `before` is called before each is written, on this one's thread: what the run told until then must last, too.
    /// Throws EnvironmentError where `folder` cannot be made.
    Checkpointer(const Problem& problem, CheckpointSummary::Kind kind, const std::filesystem::path& folder,
                 std::string config_toml, std::function<void()> before);
    ~Checkpointer();

    /// While one is being written, only the newest waits. Trouble is warned of once, and the run goes on.
    void submit(CheckpointDue&& due);
    /// Returns when none waits and none is being written.
    void wait();
    /// The same, for good.
    void finish();

  private:
    void loop();
    void write(CheckpointDue& due);

    const Problem& problem_;
    CheckpointSummary::Kind kind_;
    CheckpointFolder folder_;
    std::string config_toml_;
    std::function<void()> before_;
    bool warned_ = false;

    std::mutex mutex_;
    std::condition_variable changed_;
    std::optional<CheckpointDue> waiting_;
    bool writing_ = false;
    bool finishing_ = false;
    std::jthread thread_;
};

} // namespace lategrad
