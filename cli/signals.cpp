#include "cli/signals.h"

#include <pthread.h>
#include <unistd.h>

#include <csignal>
#include <ctime>
#include <utility>

namespace lategrad {
namespace {

sigset_t ending_signals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    return set;
}

} // namespace

Signals::Signals() {
    const sigset_t set = ending_signals();
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    thread_ = std::jthread([this](const std::stop_token& stop) { wait(stop); });
}

Signals::~Signals() {
    thread_.request_stop();
    thread_.join();
    const sigset_t set = ending_signals();
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void Signals::on_first(std::function<void()> call) {
    const std::lock_guard lock(mutex_);
    call_ = std::move(call);
    if (count_ > 0 && call_) call_();
}

void Signals::wait(const std::stop_token& stop) {
    const sigset_t set = ending_signals();
    const timespec pause{0, 100'000'000}; // how soon a run that ended by itself lets this thread go
    while (!stop.stop_requested()) {
        const int signal = sigtimedwait(&set, nullptr, &pause);
        if (signal < 0) continue;
        const std::lock_guard lock(mutex_);
        if (++count_ > 1) _exit(128 + signal);
        if (call_) call_();
    }
}

} // namespace lategrad
