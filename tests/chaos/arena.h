/// One run of real processes: a server, a supervisor of workers that starts another one for each that died, and what a
/// schedule does to them. Watches all the while.
#pragma once

#include <atomic>
#include <cstdio>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/chaos/checker.h"
#include "tests/chaos/hostile.h"
#include "tests/chaos/network.h"
#include "tests/chaos/processes.h"
#include "tests/chaos/report.h"
#include "tests/chaos/run_files.h"
#include "tests/chaos/schedule.h"

namespace lategrad::chaos {

struct ArenaOptions {
    std::string program;
    std::filesystem::path folder; ///< the run's folder and the processes' logs go into it
    std::filesystem::path keys;
    std::size_t workers = 8;
    std::size_t wait_for = 6;
    std::vector<std::string> serve; ///< options of lategrad serve that say what the run is
    std::string checkpoint_every;   ///< empty: without
    std::string server;             ///< tcp://HOST:PORT
    Network* network = nullptr;     ///< every second worker lives at the end of a link of it
    std::uint64_t elements = 0;     ///< of the model's parameters, for hostile clients
    std::uint64_t seed = 1;
    double slowness = 0; ///< by how much limits are stretched; 0: as the machine's load says
    Duration stall_after = std::chrono::seconds(15);
    std::FILE* log = nullptr;
};

/// A signal to stop came.
class Interrupted {};

class Arena {
  public:
    /// `signals`: descriptor that is readable once the harness is asked to end.
    Arena(const ArenaOptions& options, int signals);
    ~Arena();
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;

    /// Starts the server and the workers, and waits until they have all joined. False where they do not; see report.
    bool begin();
    /// From now on for so long. False where the run broke. Throws Interrupted.
    bool run(const std::vector<Disturbance>& schedule, Duration length);
    /// Asks the server to end, and holds what is left to account.
    void end();

    const Checker& checker() const { return tail_.checker(); }
    std::filesystem::path run_folder() const { return options_.folder / "run"; }
    /// Adds what was seen.
    void tell(Report& report) const;

  private:
    struct Slot {
        std::string name;
        bool extra = false;
        std::optional<std::size_t> link;
        pid_t pid = 0; ///< 0: none
        std::filesystem::path log;
        Wall started{};
        std::optional<Wall> connected; ///< when that was seen, before it joined
        bool joined = false;
        bool was_joined = false; ///< this process, at some time
        Wall joined_at{};
        std::uint64_t memory_warm = 0; ///< bytes that it had at most, when it had just joined
        std::optional<WorkerId> id;
        bool stopped = false, cut = false, killed = false;
        std::optional<Wall> asked_to_leave;
        unsigned processes = 0;
    };
    struct Kill {
        std::string name;
        WorkerId id;
        Wall at;
        std::size_t server; ///< process of the server then
    };
    struct Seen {
        std::size_t server;
        double seconds; ///< of the run
        Wall from;
    };
    struct Later {
        Wall at;
        std::function<void()> action;
        bool undoes = false; ///< what a disturbance did; at the end, at once
    };

    void start_server(bool resumes);
    void start_worker(Slot& slot);
    void pump(Wall until);
    void look();
    void on_exit(const Exit& exit);
    void on_line(const Line& line);
    void on_join(const JoinEvent& join, Time at);
    void on_leave(WorkerId worker, Time at, bool gone);
    void disturb(const Disturbance& disturbance);
    void kill_worker(const Disturbance& disturbance);
    void stop_worker(const Disturbance& disturbance);
    void cut_worker(const Disturbance& disturbance);
    void add_worker(const Disturbance& disturbance);
    void start_attack(const Disturbance& disturbance);
    void kill_server();
    void look_at_checkpoints();
    void finish_attack();
    void check_stall();
    void check_memory();
    void check_growth(const std::string& process, std::uint64_t bytes, bool warms_up, std::uint64_t& warm);
    void check_kills();
    void end_server();
    void end_workers();
    Slot* pick(std::uint64_t number, const std::function<bool(const Slot&)>& may);
    std::size_t able() const;
    void say(const std::string& what);
    void wrong(const std::string& what);
    void later(Duration wait, std::function<void()> action, bool undoes = false);
    double slowness() const;
    Duration stretched(Duration limit) const;
    std::string last_words(const std::filesystem::path& log) const;

    ArenaOptions options_;
    int signals_;
    int inotify_ = -1;
    Processes processes_;
    EventTail tail_;
    std::list<Slot> slots_;
    pid_t server_ = 0;
    std::filesystem::path server_log_;
    std::size_t server_starts_ = 0;
    Wall server_started_{};
    std::optional<Version> newest_whole_; ///< checkpoint, when the server was killed
    bool server_proven_ = true;           ///< has made an update since it was resumed
    bool broken_ = false, ending_ = false;
    Wall began_ = WallClock::now();
    std::list<Later> later_;
    std::size_t extras_ = 0;
    std::uint16_t port_ = 0;

    // What was seen.
    std::map<std::size_t, double> offsets_; ///< by process of the server: wall time of the run's second 0
    std::list<Kill> kills_;                 ///< nothing seen of them yet
    std::vector<Seen> detected_, rejoined_, rejoined_from_connect_;
    std::uint64_t unseen_kills_ = 0, kills_before_join_ = 0;
    Wall updated_{}, able_since_ = Wall::max();
    bool stalled_ = false;
    std::uint64_t hangs_ = 0;
    Wall memory_looked_{}, connections_looked_{};
    std::uint64_t memory_warm_ = 0, memory_most_ = 0;
    std::map<std::string, std::uint64_t> disturbances_, attacks_;
    std::uint64_t servers_survived_ = 0, servers_killed_ = 0;
    double server_end_seconds_ = 0;
    std::vector<std::string> wrong_;
    std::set<std::string> told_;

    // The hostile client, on its thread.
    std::thread hostile_;
    std::atomic<bool> hostile_stop_ = false, hostile_done_ = true;
    Attacked attacked_;
};

} // namespace lategrad::chaos
