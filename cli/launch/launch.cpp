/// lategrad launch: starts a run's processes by MPI's mpirun, so that a worker that dies does not end it, and stays to
/// say how the run ended.
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include "cli/commands.h"
#include "cli/config.h"
#include "cli/elastic/welcome.h"
#include "cli/launch/server_word.h"
#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"
#include "lategrad/transport/mpi_launch.h"

namespace lategrad {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Words = std::vector<std::string>;

/// Once the server has ended, how long the other processes may take to, and then mpirun to end them: longer than they
/// wait for each other.
constexpr std::chrono::seconds kOthersEnd{10};
/// How soon it is noticed that the server has ended or died.
constexpr timespec kLook{0, 100'000'000};
/// As much where it found the options wrong, as do the others.
constexpr std::chrono::milliseconds kSaid{500};
constexpr int kFailed = 1;
constexpr int kBadInput = 2;

struct LaunchOptions {
    std::size_t processes = 0; ///< 0: a server and --workers
    std::string hosts;
    std::string hostfile;
    std::string mpirun;
    bool print = false;

    bool several_nodes() const { return !hosts.empty() || !hostfile.empty(); }
};

bool is_program(const fs::path& path) {
    std::error_code error;
    return fs::is_regular_file(path, error) && ::access(path.c_str(), X_OK) == 0;
}

/// Its path, where it is one or PATH has it.
std::optional<std::string> find_program(const std::string& name) {
    if (name.find('/') != name.npos) return is_program(name) ? std::optional(name) : std::nullopt;
    const char* folders = std::getenv("PATH");
    for (const std::string_view folder : split(folders ? folders : "", ':')) {
        const fs::path path = fs::path(folder) / name;
        if (!folder.empty() && is_program(path)) return path.string();
    }
    return std::nullopt;
}

/// Throws InputError where it is not here.
std::string find_mpirun(const std::string& named) {
    const std::string built_with(mpi_build_launcher());
    if (built_with.empty()) {
        throw InputError("launch mpi: this build has no MPI; configure it with -DLATEGRAD_MPI=openmpi or "
                         "-DLATEGRAD_MPI=mpich");
    }
    if (!named.empty()) {
        if (const auto found = find_program(named)) return *found;
        throw InputError(fmt::format("--mpirun {}: there is no such program", named));
    }
    for (const std::string& name : {built_with, fs::path(built_with).filename().string()}) {
        if (const auto found = find_program(name)) return *found;
    }
    throw InputError(fmt::format("launch mpi: {}'s mpirun is not here (neither {} nor in PATH); name it by --mpirun",
                                 mpi_build_name(), built_with));
}

/// What stands behind --workers, the last time.
std::string workers_in(const Words& arguments, std::string workers) {
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        if (arguments[i].starts_with("--workers=")) workers = arguments[i].substr(10);
        else if (arguments[i] == "--workers" && i + 1 < arguments.size()) workers = arguments[i + 1];
    }
    return workers;
}

/// A server and as many workers as `train` will read from the same words. Throws InputError.
std::size_t processes_for(const CLI::App& train, const Words& arguments) {
    const std::string workers = workers_in(expand_config(train, with_config_of_resumed(arguments)),
                                           train.get_option("--workers")->get_default_str());
    std::uint32_t count = 0;
    const auto [end, error] = std::from_chars(workers.data(), workers.data() + workers.size(), count);
    if (error != std::errc() || end != workers.data() + workers.size() || count == 0) {
        throw InputError(fmt::format("--workers {}: expected a number, 1 or more", workers));
    }
    return std::size_t{count} + 1;
}

/// The words of mpirun's command line. Throws InputError.
Words line_of(const LaunchOptions& options, const CLI::App& train, const Words& run) {
    Words line = {find_mpirun(options.mpirun)};
    const auto add = [&](std::initializer_list<std::string> words) { line.insert(line.end(), words); };
    const bool open_mpi = mpi_build_name() == "Open MPI";
    if (open_mpi) {
        // Without recovery a process that dies is the end of all. Shared memory, since TCP can hang when a peer dies;
        // and unbound, since each process has threads, which Open MPI would bind to one core together.
        add({"--enable-recovery", "--mca", "pml", "ob1", "--mca", "btl",
             options.several_nodes() ? "tcp,vader,self" : "vader,self", "--bind-to", "none", "--oversubscribe"});
    }
    if (!options.hosts.empty()) add({open_mpi ? "--host" : "-hosts", options.hosts});
    if (!options.hostfile.empty()) add({open_mpi ? "--hostfile" : "-f", options.hostfile});
    const std::size_t processes =
        options.processes > 0 ? options.processes : processes_for(train, {run.begin() + 1, run.end()});
    add({"-n", std::to_string(processes), fs::read_symlink("/proc/self/exe").string()});
    line.insert(line.end(), run.begin(), run.end());
    return line;
}

/// As a shell reads it.
std::string shell_word(const std::string& word) {
    constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+.,:/@%";
    if (!word.empty() && word.find_first_not_of(kPlain) == word.npos) return word;
    std::string quoted = "'";
    for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return quoted + "'";
}

std::string shell_line(const Words& words) {
    Words quoted;
    for (const std::string& word : words) quoted.push_back(shell_word(word));
    return fmt::format("{}", fmt::join(quoted, " "));
}

void warn_of_deaths(const LaunchOptions& options) {
    if (mpi_build_name() != "Open MPI") {
        spdlog::warn("{}'s mpirun ends the whole run when one worker dies; Open MPI's does not, nor do lategrad serve "
                     "and work",
                     mpi_build_name());
    } else if (options.several_nodes()) {
        spdlog::warn("over several nodes a worker or a node that dies can hang the run or end it "
                     "(docs/reliability.md); with lategrad serve and work it does not");
    }
}

/// mpirun, running in a process group of its own: Ctrl-C comes to this program alone, which knows what to do about it.
class Mpirun {
  public:
    Mpirun(Words words, const fs::path& server_word, const sigset_t& mask) {
        std::vector<char*> argv;
        for (std::string& word : words) argv.push_back(word.data());
        argv.push_back(nullptr);
        const pid_t parent = ::getpid();
        process_ = ::fork();
        if (process_ < 0) throw EnvironmentError("launch mpi: no process can be started");
        if (process_ > 0) return;
        ::setpgid(0, 0);
        ::prctl(PR_SET_PDEATHSIG, SIGTERM); // should this program be killed, so is the run
        if (::getppid() != parent) ::_exit(kFailed);
        ::setenv(kServerWordVariable, server_word.c_str(), 1);
        const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC); // it would stop where it read from a terminal
        if (nothing >= 0) ::dup2(nothing, STDIN_FILENO);
        ::sigprocmask(SIG_SETMASK, &mask, nullptr);
        ::execv(argv[0], argv.data());
        ::_exit(127);
    }

    /// It ends every process: SIGTERM, and a second later SIGKILL.
    void end_all() const { ::kill(process_, SIGTERM); }

    /// For one that waits for a node that is gone.
    void kill() const { ::kill(-process_, SIGKILL); }

    /// Its exit status, 128 + the signal where that ended it; nothing while it runs.
    std::optional<int> ended() const {
        int status = 0;
        if (::waitpid(process_, &status, WNOHANG) != process_) return std::nullopt;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }

  private:
    pid_t process_ = -1;
};

bool is_gone(pid_t process) {
    return ::kill(process, 0) != 0 && errno == ESRCH;
}

/// Returns the run's exit status.
int run(const Words& line) {
    const ScratchFolder scratch;
    const fs::path file = scratch.path() / "server";
    sigset_t before, ours;
    sigemptyset(&ours);
    for (const int signal : {SIGINT, SIGTERM, SIGCHLD}) sigaddset(&ours, signal);
    ::sigprocmask(SIG_BLOCK, &ours, &before);
    const Mpirun mpirun(line, file, before);
    int interrupts = 0;
    std::optional<Clock::time_point> end_at, kill_at; // when mpirun must end the others, and when it is killed itself
    const auto end_all = [&] {
        mpirun.end_all();
        if (!kill_at) kill_at = Clock::now() + kOthersEnd;
    };
    for (;;) {
        const int signal = ::sigtimedwait(&ours, nullptr, &kLook);
        const auto status = mpirun.ended();
        const auto word = read_server_word(file);
        if (status) {
            if (word && word->status) return *word->status;
            if (kill_at || interrupts > 0) return kFailed;
            if (*status == 0) spdlog::error("the server ended without a word on how the run went; see its run folder");
            return *status == 0 ? kFailed : *status;
        }
        if (signal == SIGINT || signal == SIGTERM) {
            // The server ends the run cleanly; mpirun would kill it after a second.
            if (++interrupts == 1 && word && !word->status) ::kill(word->process, SIGTERM);
            else end_all();
        }
        const auto now = Clock::now();
        if (kill_at) {
            if (now > *kill_at) mpirun.kill();
        } else if (end_at) {
            if (now > *end_at) end_all();
        } else if (word && word->status) {
            end_at = now + (*word->status == kBadInput ? Clock::duration(kSaid) : kOthersEnd);
        } else if (word && is_gone(word->process) && !read_server_word(file)->status) {
            spdlog::error("the server (rank 0, process {}) died; without it there is no run: go on from its last "
                          "checkpoint by --resume",
                          word->process);
            end_all();
        }
    }
}

int launch(const LaunchOptions& options, const CLI::App& train, const Words& words) {
    if (words.empty()) {
        throw InputError("launch mpi: expected what to run behind it: lategrad launch mpi -- train --workers 8");
    }
    if (words.front() != "train") {
        throw InputError(
            words.front().starts_with("-")
                ? fmt::format("{}: there is no such option; see lategrad launch mpi --help", words.front())
                : fmt::format("launch mpi: {} does not run as several processes; train does", words.front()));
    }
    if (options.processes == 1) throw InputError("-n 1: expected 2 or more, a server and its workers");
    if (!options.hosts.empty() && !options.hostfile.empty()) throw InputError("--hosts: goes without --hostfile");
    const Words line = line_of(options, train, words);
    warn_of_deaths(options);
    if (options.print) {
        fmt::print("{}\n", shell_line(line));
        return 0;
    }
    spdlog::info("{}", shell_line(line));
    return run(line);
}

} // namespace

void add_launch(CLI::App& program, Command& chosen) {
    CLI::App* command = program.add_subcommand("launch", "Start the processes of a run over MPI, and see them end");
    command->require_subcommand(1);
    auto options = std::make_shared<LaunchOptions>();
    CLI::App* mpi = command->add_subcommand(
        "mpi", "By mpirun, so that a worker that dies on this machine does not end the run; rank 0 serves");
    const auto add = [&](const char* name, auto& value, const char* help, const char* type) {
        return mpi->add_option(name, value, help)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
            ->type_name(type);
    };
    take_whole_numbers(*add("-n,--processes", options->processes,
                            "a server and its workers; default --workers of train, and one", "N"));
    add("--hosts", options->hosts, "several nodes, the server on the first: start this there", "HOST[:N],...");
    add("--hostfile", options->hostfile, "the same, as a file of mpirun's", "FILE");
    add("--mpirun", options->mpirun, "default the one of the MPI this was built with", "PROGRAM");
    mpi->add_flag("--print", options->print, "print mpirun's command line, for a batch script, and start nothing");
    mpi->prefix_command();
    mpi->footer(
        "The exit status is the run's (mpirun's own is 0 whatever happens). Ctrl-C ends the run cleanly, a second "
        "one at once.\n\n"
        "Examples:\n"
        "  lategrad launch mpi -- train --workers 8 --wait-for 6\n"
        "  lategrad launch mpi -n 9 -- train --wait-for 6 --suspect-after 2s --dead-after 10s\n"
        "  lategrad launch mpi --hosts a:5,b:4 -- train --workers 8 --wait-for 6\n"
        "  lategrad launch mpi --print -- train --workers 8 --epochs 5\n");
    const CLI::App* train = program.get_subcommand("train");
    mpi->callback([mpi, train, options, &chosen] {
        chosen = [train, options, words = mpi->remaining()] { return launch(*options, *train, words); };
    });
}

} // namespace lategrad
