/// Programs that run beside a test: started, waited for, signalled by their id.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/cli/program.h"

namespace lategrad {

/// Until `holds`, or for longer than anything takes, on a machine with much else to do too.
inline bool wait_until(const std::function<bool()>& holds) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(3);
    while (!holds()) {
        if (std::chrono::steady_clock::now() > deadline) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return true;
}

/// The built program, running. Killed when this goes, if it has not ended.
class Background {
  public:
    Background(const TempDir& dir, const std::string& name, const std::vector<std::string>& arguments)
        : out_(dir / (name + ".out")),
          err_(dir / (name + ".err")) {
        std::vector<std::string> words = {program_path()};
        words.insert(words.end(), arguments.begin(), arguments.end());
        std::vector<char*> argv;
        for (std::string& word : words) argv.push_back(word.data());
        argv.push_back(nullptr);
        pid_ = ::fork();
        if (pid_ != 0) return;
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::dup2(::open(out_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666), STDOUT_FILENO);
        ::dup2(::open(err_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666), STDERR_FILENO);
        ::execv(argv[0], argv.data());
        ::_exit(127);
    }
    ~Background() {
        if (status_) return;
        send(SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    Background(const Background&) = delete;
    Background& operator=(const Background&) = delete;

    pid_t pid() const { return pid_; }
    void send(int signal) const { ::kill(pid_, signal); }
    std::string out() const { return text_in(out_); }
    std::string err() const { return text_in(err_); }
    bool said(const std::string& words) const {
        return wait_until([&] { return err().find(words) != std::string::npos; });
    }
    /// The exit status, 128 + the signal where that ended it, −1 where it does not end.
    int wait() {
        wait_until([this] { return ended(); });
        return status_.value_or(-1);
    }

  private:
    bool ended() {
        int status = 0;
        if (!status_ && ::waitpid(pid_, &status, WNOHANG) == pid_) {
            status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        return status_.has_value();
    }

    std::filesystem::path out_, err_;
    pid_t pid_ = -1;
    std::optional<int> status_;
};

} // namespace lategrad
