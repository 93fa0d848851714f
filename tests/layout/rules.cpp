#include "tests/layout/rules.h"

#include <map>
#include <regex>
#include <sstream>

#include <fmt/format.h>

namespace lategrad {
namespace {

const std::map<std::string, std::set<std::string>, std::less<>>& table() {
    static const std::map<std::string, std::set<std::string>, std::less<>> allowed = {
        {"core", {}},
        {"files", {"core"}},
        {"data", {"core", "files"}},
        {"torch", {"core", "files", "data", "worker"}},
        {"worker", {"core", "files", "data", "codec", "wire", "node"}},
        {"codec", {"core"}},
        {"wire", {"core"}},
        {"node", {"core", "wire"}},
        {"transport", {"core", "wire"}},
        {"policy", {"core"}},
        {"optim", {"core"}},
        {"checkpoint", {"core", "files"}},
        {"server", {"core", "codec", "wire", "node", "policy", "optim"}},
        {"runtime", {"core", "data", "worker", "codec", "wire", "node", "transport"}},
        {"sim", {"core", "files", "codec", "data", "wire", "node", "policy", "optim", "server", "worker"}},
        {"theory", {"core"}},
        {"telemetry", {"core", "files", "node", "server"}},
    };
    return allowed;
}

/// What may be named only in these folders (or in files that begin so), and how it is called.
struct Fenced {
    std::regex what;
    std::string name;
    std::vector<std::string> where;
};

const std::vector<Fenced>& fenced() {
    static const std::vector<Fenced> rules = {
        {std::regex(R"(#\s*include\s*<(torch|ATen|c10)/)"), "libtorch", {"lategrad/torch/"}},
        {std::regex(R"(#\s*include\s*<mpi\.h>)"), "<mpi.h>", {"lategrad/transport/mpi"}},
        {std::regex(R"(#\s*include\s*<zmq\.h(pp)?>)"), "ZeroMQ", {"lategrad/transport/zmq_"}},
        {std::regex(R"(\b(steady_clock|system_clock|high_resolution_clock)\b)"),
         "a clock",
         {"lategrad/transport/", "lategrad/runtime/", "lategrad/telemetry/", "cli/"}},
        {std::regex(R"(#\s*pragma\s+omp\b)"), "OpenMP", {"lategrad/torch/"}},
    };
    return rules;
}

/// Not for a policy, which decides and never does.
const std::regex& not_in_policy() {
    static const std::regex headers(R"(#\s*include\s*<(thread|mutex|shared_mutex|condition_variable|atomic|future|)"
                                    R"(chrono|fstream|iostream|cstdio|filesystem)>)");
    return headers;
}

std::string without_comment(const std::string& line) {
    return line.substr(0, line.find("//"));
}

} // namespace

const std::vector<std::string>& folders() {
    static const std::vector<std::string> names = [] {
        std::vector<std::string> out;
        for (const auto& [name, allowed] : table()) out.push_back(name);
        return out;
    }();
    return names;
}

const std::set<std::string>& allowed_includes(std::string_view folder) {
    return table().find(folder)->second;
}

std::vector<std::string> breaches(std::string_view path, std::string_view text) {
    static const std::regex own_include(R"re(#\s*include\s*["<](lategrad|cli|tests|bench)/(([^/">]+)/)?[^">]*[">])re");
    std::vector<std::string> found;
    std::string folder; // of lategrad/; empty in cli/, which may include all of it
    if (path.starts_with("lategrad/")) folder = path.substr(9, path.find('/', 9) - 9);
    if (!folder.empty() && table().find(folder) == table().end()) {
        return {fmt::format("{}: lategrad/{} is not in the table of tests/layout/rules.cpp", path, folder)};
    }

    std::istringstream lines{std::string(text)};
    std::size_t number = 0;
    for (std::string raw; std::getline(lines, raw);) {
        ++number;
        const std::string line = without_comment(raw);
        const auto breach = [&](const std::string& what) {
            found.push_back(fmt::format("{}:{}: {}", path, number, what));
        };
        std::smatch match;
        if (!folder.empty() && std::regex_search(line, match, own_include)) {
            const std::string top = match[1];
            const std::string other = match[3];
            if (top != "lategrad") {
                breach(fmt::format("lategrad/{} may not include {}/", folder, top));
            } else if (other != folder && !allowed_includes(folder).contains(other)) {
                breach(fmt::format("lategrad/{} may not include lategrad/{}", folder, other));
            } else if (folder == "torch" && other == "worker" &&
                       line.find("worker/gradient_source.h") == std::string::npos) {
                breach("lategrad/torch may include worker/gradient_source.h alone of lategrad/worker");
            }
        }
        for (const Fenced& rule : fenced()) {
            const bool inside = std::any_of(rule.where.begin(), rule.where.end(),
                                            [&](const std::string& where) { return path.starts_with(where); });
            if (!inside && std::regex_search(line, rule.what)) {
                breach(fmt::format("{} belongs to {}", rule.name, fmt::join(rule.where, ", ")));
            }
        }
        if (folder == "policy" && std::regex_search(line, match, not_in_policy())) {
            breach(fmt::format("a policy decides and never does: no <{}>", match[1].str()));
        }
    }
    return found;
}

std::set<std::string> declared_dependencies(std::string_view cmake) {
    static const std::set<std::string> keywords = {"SOURCES", "PUBLIC", "PRIVATE"};
    std::set<std::string> out;
    std::string spaced;
    for (const char c : cmake) spaced += c == '(' || c == ')' ? fmt::format(" {} ", c) : std::string(1, c);
    std::istringstream words(spaced);
    bool listing = false;
    for (std::string word; words >> word;) {
        if (word == "DEPENDS") listing = true;
        else if (word == ")" || keywords.contains(word)) listing = false;
        else if (listing) out.insert(word);
    }
    return out;
}

} // namespace lategrad
