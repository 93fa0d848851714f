/// Processes of the harness's own: started, signalled and reaped by their ids alone. None outlives the harness, however
/// that ends.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace lategrad::chaos {

using WallClock = std::chrono::steady_clock;
using Wall = WallClock::time_point;

struct StartOptions {
    std::vector<std::string> command; ///< the program's path and its arguments
    std::filesystem::path log;        ///< takes both outputs
    std::string network;              ///< name of the namespace it lives in; empty: ours
};

/// How a process ended.
struct Exit {
    pid_t pid;
    int status = 0; ///< 128 + signal where a signal ended it
    bool signalled = false;
    Wall at;
};

/// One thread, which must live as long as the processes do: they are killed with it.
class Processes {
  public:
    Processes() = default;
    /// Kills what is left.
    ~Processes();
    Processes(const Processes&) = delete;
    Processes& operator=(const Processes&) = delete;

    /// Throws EnvironmentError. What cannot be executed ends with status 127.
    pid_t start(const StartOptions& options);
    /// False where it has ended. REQUIRES: started here.
    bool signal(pid_t pid, int number);
    /// Those that have ended since the last call; each once.
    std::vector<Exit> reap();
    bool running(pid_t pid) const { return pidfds_.contains(pid); }
    std::vector<pid_t> running() const;
    /// Readable once the process has ended.
    int pidfd(pid_t pid) const { return pidfds_.at(pid); }
    /// Waits for that until then. Nothing where it still runs. Its exit is not told by reap() again.
    std::optional<Exit> wait(pid_t pid, Wall until);
    /// SIGKILL to all, and waits for them.
    void kill_all();

  private:
    std::optional<Exit> reap(pid_t pid);
    std::map<pid_t, int> pidfds_;
};

/// Resident memory, in bytes; nothing where there is no such process.
std::optional<std::uint64_t> resident_bytes(pid_t pid);

/// Processes whose parent is this one, zombies included.
std::vector<pid_t> children();

/// Whether the process has a TCP connection to this port that stands.
bool connected_to(pid_t pid, std::uint16_t port);

/// Runs a program to its end, and returns its status; what it says is added to `words`.
int run(const std::vector<std::string>& command, std::string* words = nullptr);

} // namespace lategrad::chaos
