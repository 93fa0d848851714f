#include "tests/chaos/network.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <vector>

#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"
#include "tests/chaos/processes.h"

namespace lategrad::chaos {
namespace {

constexpr std::string_view kPrefix = "lgchaos";
constexpr std::string_view kFolder = "/run/netns";

/// Throws EnvironmentError.
void ip(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "ip");
    std::string words;
    const int status = run(arguments, &words);
    if (status == 0) return;
    std::string line;
    for (const std::string& word : arguments) line += word + " ";
    throw EnvironmentError(fmt::format("{}: status {}: {}", line, status, trimmed(words)));
}

void remove(const std::string& name) {
    std::string ignored;
    run({"ip", "netns", "del", name}, &ignored);
}

std::vector<std::string> names(std::string_view prefix) {
    std::vector<std::string> found;
    std::error_code missing;
    for (const auto& entry : std::filesystem::directory_iterator(kFolder, missing)) {
        const std::string name = entry.path().filename().string();
        if (name.starts_with(prefix)) found.push_back(name);
    }
    return found;
}

/// lgchaosPID-N, where there is no such process.
void remove_orphans() {
    for (const std::string& name : names(kPrefix)) {
        const std::string number = name.substr(kPrefix.size(), name.find('-') - kPrefix.size());
        const auto pid = parse_number<pid_t>(number);
        if (pid && kill(*pid, 0) != 0 && errno == ESRCH) remove(name);
    }
}

} // namespace

std::optional<Network> Network::make(std::size_t links, std::string& why) {
    if (geteuid() != 0) {
        why = "network namespaces need root";
        return std::nullopt;
    }
    remove_orphans();
    Network network(fmt::format("{}{}", kPrefix, getpid()), links);
    try {
        const std::string middle = network.middle();
        ip({"netns", "add", middle});
        ip({"-n", middle, "link", "set", "lo", "up"});
        ip({"-n", middle, "link", "add", "br0", "type", "bridge"});
        ip({"-n", middle, "addr", "add", "10.77.0.1/24", "dev", "br0"});
        ip({"-n", middle, "link", "set", "br0", "up"});
        for (std::size_t link = 0; link < links; ++link) {
            const std::string end = network.end(link), port = fmt::format("port{}", link);
            ip({"netns", "add", end});
            ip({"link", "add", "eth0", "netns", end, "type", "veth", "peer", "name", port, "netns", middle});
            ip({"-n", end, "link", "set", "lo", "up"});
            ip({"-n", end, "addr", "add", fmt::format("10.77.0.{}/24", link + 2), "dev", "eth0"});
            ip({"-n", end, "link", "set", "eth0", "up"});
            ip({"-n", middle, "link", "set", port, "master", "br0", "up"});
        }
    } catch (const EnvironmentError& error) {
        why = error.what();
        return std::nullopt;
    }
    return network;
}

Network::~Network() {
    if (name_.empty()) return;
    for (const std::string& name : names(name_ + "-")) remove(name);
}

std::string Network::address() const {
    return "10.77.0.1";
}

void Network::set_link(std::size_t link, bool up) {
    ip({"-n", middle(), "link", "set", fmt::format("port{}", link), up ? "up" : "down"});
}

void enter_network(const std::string& name) {
    const std::string path = fmt::format("{}/{}", kFolder, name);
    const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    const bool entered = descriptor >= 0 && setns(descriptor, CLONE_NEWNET) == 0;
    const int error = errno;
    if (descriptor >= 0) close(descriptor);
    if (!entered) throw EnvironmentError(fmt::format("{}: {}", path, std::strerror(error)));
}

} // namespace lategrad::chaos
