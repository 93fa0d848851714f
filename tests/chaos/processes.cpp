#include "tests/chaos/processes.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"

namespace lategrad::chaos {
namespace {

constexpr int kCannotExecute = 127;
constexpr std::int64_t kPollMax = 1'000'000; ///< milliseconds

[[noreturn]] void fail(const char* what) {
    throw EnvironmentError(fmt::format("{}: {}", what, std::strerror(errno)));
}

/// In the child: system calls alone.
[[noreturn]] void become(char* const* arguments, int out, int network, pid_t parent) {
    // Goes with its parent. That may have gone before it was asked to be told.
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) _exit(kCannotExecute);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    setpgid(0, 0); // Ctrl-C is for the harness, which ends them in its own way
    if (network >= 0 && setns(network, CLONE_NEWNET) != 0) _exit(kCannotExecute);
    const int in = open("/dev/null", O_RDONLY);
    if (in < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) _exit(kCannotExecute);
    execvp(arguments[0], arguments);
    _exit(kCannotExecute);
}

std::set<std::string> connected_sockets(pid_t pid, std::uint16_t port) {
    std::set<std::string> inodes;
    std::ifstream table(fmt::format("/proc/{}/net/tcp", pid));
    const std::string remote_port = fmt::format(":{:04X}", port);
    for (std::string line; std::getline(table, line);) {
        std::istringstream fields(line);
        std::string number, local, remote, state, queues, timer, retransmits, user, timeout, inode;
        fields >> number >> local >> remote >> state >> queues >> timer >> retransmits >> user >> timeout >> inode;
        if (state == "01" && remote.ends_with(remote_port)) inodes.insert(inode);
    }
    return inodes;
}

} // namespace

Processes::~Processes() {
    kill_all();
}

pid_t Processes::start(const StartOptions& options) {
    std::vector<char*> arguments;
    for (const std::string& word : options.command) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    const int out = open(options.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (out < 0) fail(options.log.c_str());
    int network = -1;
    if (!options.network.empty()) {
        const std::string name = "/run/netns/" + options.network;
        network = open(name.c_str(), O_RDONLY | O_CLOEXEC);
        if (network < 0) {
            close(out);
            fail(name.c_str());
        }
    }
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid == 0) become(arguments.data(), out, network, parent);
    const int error = errno;
    close(out);
    if (network >= 0) close(network);
    errno = error;
    if (pid < 0) fail("fork");
    const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
    if (pidfd < 0) {
        kill(pid, SIGKILL);
        waitpid(pid, nullptr, 0);
        fail("pidfd_open");
    }
    fcntl(pidfd, F_SETFD, FD_CLOEXEC);
    pidfds_[pid] = pidfd;
    return pid;
}

bool Processes::signal(pid_t pid, int number) {
    const auto found = pidfds_.find(pid);
    // By its pidfd, which never means another process.
    return found != pidfds_.end() && syscall(SYS_pidfd_send_signal, found->second, number, nullptr, 0) == 0;
}

std::optional<Exit> Processes::reap(pid_t pid) {
    int status = 0;
    if (waitpid(pid, &status, WNOHANG) != pid) return std::nullopt;
    close(pidfds_.at(pid));
    pidfds_.erase(pid);
    const bool signalled = WIFSIGNALED(status);
    return Exit{.pid = pid,
                .status = signalled ? 128 + WTERMSIG(status) : WEXITSTATUS(status),
                .signalled = signalled,
                .at = WallClock::now()};
}

std::vector<Exit> Processes::reap() {
    std::vector<Exit> exits;
    for (const pid_t pid : running()) {
        if (const auto exit = reap(pid)) exits.push_back(*exit);
    }
    return exits;
}

std::vector<pid_t> Processes::running() const {
    std::vector<pid_t> pids;
    for (const auto& [pid, fd] : pidfds_) pids.push_back(pid);
    return pids;
}

std::optional<Exit> Processes::wait(pid_t pid, Wall until) {
    if (!running(pid)) return std::nullopt;
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - WallClock::now()).count();
        pollfd ended{.fd = pidfd(pid), .events = POLLIN, .revents = 0};
        const int ready = poll(&ended, 1, static_cast<int>(std::clamp<std::int64_t>(left, 0, kPollMax)));
        if (ready > 0) return reap(pid);
        if (ready == 0 && left <= kPollMax) return std::nullopt;
        if (ready < 0 && errno != EINTR) fail("poll");
    }
}

void Processes::kill_all() {
    for (const pid_t pid : running()) signal(pid, SIGKILL);
    for (const pid_t pid : running()) wait(pid, WallClock::now() + std::chrono::hours(24));
}

std::optional<std::uint64_t> resident_bytes(pid_t pid) {
    std::ifstream status(fmt::format("/proc/{}/status", pid));
    for (std::string line; std::getline(status, line);) {
        if (!line.starts_with("VmRSS:")) continue;
        std::istringstream fields(line.substr(6));
        std::uint64_t kilobytes = 0;
        fields >> kilobytes;
        return kilobytes * 1024;
    }
    return std::nullopt;
}

std::vector<pid_t> children() {
    std::vector<pid_t> pids;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
        std::ifstream list(task.path() / "children");
        for (pid_t pid = 0; list >> pid;) pids.push_back(pid);
    }
    return pids;
}

bool connected_to(pid_t pid, std::uint16_t port) {
    const auto sockets = connected_sockets(pid, port);
    if (sockets.empty()) return false;
    std::error_code gone;
    for (const auto& entry : std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", pid), gone)) {
        const std::string target = std::filesystem::read_symlink(entry.path(), gone).string();
        if (target.starts_with("socket:[") && sockets.contains(target.substr(8, target.size() - 9))) return true;
    }
    return false;
}

int run(const std::vector<std::string>& command, std::string* words) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) fail("pipe");
    std::vector<char*> arguments;
    for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid == 0) become(arguments.data(), ends[1], -1, parent);
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        fail("fork");
    }
    char bytes[4096];
    for (ssize_t count = 0; (count = read(ends[0], bytes, sizeof bytes)) != 0;) {
        if (count < 0 && errno != EINTR) break;
        if (words && count > 0) words->append(bytes, static_cast<std::size_t>(count));
    }
    close(ends[0]);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

} // namespace lategrad::chaos
