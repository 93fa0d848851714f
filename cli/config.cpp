#include "cli/config.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <span>
#include <system_error>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <toml++/toml.h>

#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"

namespace lategrad {
namespace {

constexpr std::array<std::string_view, 3> kCommandsWithTables = {"train", "simulate", "serve"};

void require(bool good, std::string message) {
    if (!good) throw InputError(std::move(message));
}

/// A TOML string.
std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        const auto code = static_cast<unsigned char>(c);
        if (code < 0x20 || code == 0x7f) {
            out += fmt::format("\\u{:04x}", code);
            continue;
        }
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    return out + "\"";
}

std::string as_argument(const toml::node& value, const std::string& where) {
    if (const auto* text = value.as_string()) return text->get();
    if (const auto* integer = value.as_integer()) return std::to_string(integer->get());
    if (const auto* number = value.as_floating_point()) return fmt::format("{}", number->get());
    throw InputError(where + ": expected a string, a number or a boolean");
}

// CLI11's own words for a wrong number have four hundred digits, and it reads -3 as an unsigned one of twenty.

CLI::Validator whole_number() {
    return {[](const std::string& text) -> std::string {
                // TOML's integers end there, and config.toml must say what was run.
                const auto value = parse_number<std::int64_t>(text);
                return value && *value >= 0 ? "" : text + ": expected a whole number, 0 or more and below 2^63";
            },
            ""};
}

CLI::Validator number() {
    return {[](const std::string& text) { return parse_number<double>(text) ? "" : text + ": expected a number"; }, ""};
}

} // namespace

void take_whole_numbers(CLI::Option& option) {
    option.check(whole_number());
}

void take_numbers(CLI::Option& option) {
    option.check(number());
}

std::string toml_line(std::string_view key, const std::string& text) {
    return fmt::format("{} = {}\n", key, quoted(text));
}

std::vector<std::string> expand_config(const CLI::App& command, std::vector<std::string> arguments) {
    const auto given = [&](const std::string& option) {
        return std::ranges::any_of(arguments, [&](const std::string& argument) {
            return argument == option || argument.starts_with(option + "=");
        });
    };
    std::vector<std::string> expanded;
    std::vector<std::string> rest;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        std::string file;
        if (arguments[i] == "--config" && i + 1 < arguments.size()) file = arguments[++i];
        else if (arguments[i].starts_with("--config=")) file = arguments[i].substr(9);
        if (file.empty()) {
            rest.push_back(arguments[i]);
            continue;
        }
        std::error_code error; // a run folder stands for its options
        if (std::filesystem::is_directory(file, error)) file = (std::filesystem::path(file) / "config.toml").string();
        toml::table table;
        try {
            table = toml::parse_file(file);
        } catch (const toml::parse_error& error) {
            const auto line = error.source().begin.line;
            throw InputError(line ? fmt::format("--config {}:{}: {}", file, line, error.description())
                                  : fmt::format("--config {}: {}", file, error.description()));
        }
        const auto expand = [&](const auto& self, const toml::table& options) -> void {
            for (const auto& [key, value] : options) {
                const std::string where = fmt::format("--config {}:{}: {}", file, value.source().begin.line, key.str());
                if (const auto* own = value.as_table()) {
                    require(std::ranges::find(kCommandsWithTables, key.str()) != kCommandsWithTables.end(),
                            where + ": there is no command of that name with options of its own");
                    if (key.str() == command.get_name()) self(self, *own);
                    continue;
                }
                const std::string name = "--" + std::string(key.str());
                const CLI::Option* option = command.get_option_no_throw(name);
                if (name == "--policy" && command.get_option_no_throw("--policies")) continue; // compare has several
                if (name == "--codec" && (given("--codecs") || table.contains("codecs"))) continue;
                require(option && name != "--config", where + ": there is no such option");
                if (const auto* truth = value.as_boolean()) {
                    require(option->get_items_expected_max() == 0, where + ": expected a value, not a boolean");
                    if (truth->get()) expanded.push_back(name);
                } else {
                    require(option->get_items_expected_max() > 0, where + ": expected true or false");
                    expanded.push_back(name + "=" + as_argument(value, where));
                }
            }
        };
        expand(expand, table);
    }
    expanded.insert(expanded.end(), rest.begin(), rest.end());
    return expanded;
}

namespace {

/// Values as they are written, by key.
std::map<std::string, std::string> values_of(std::string_view toml) {
    std::map<std::string, std::string> values;
    for (const std::string_view line : split(toml, '\n')) {
        const auto equals = line.find(" = ");
        if (line.starts_with('#') || equals == line.npos) continue;
        values.emplace(line.substr(0, equals), line.substr(equals + 3));
    }
    return values;
}

} // namespace

std::string changed_options(std::string_view before, std::string_view now, std::span<const std::string_view> free) {
    const auto was = values_of(before), is = values_of(now);
    std::map<std::string, std::string> both = was;
    both.insert(is.begin(), is.end());
    std::string words;
    for (const auto& [name, ignored] : both) {
        const auto one = was.find(name), other = is.find(name);
        const std::string old_value = one == was.end() ? "not given" : one->second;
        const std::string new_value = other == is.end() ? "not given" : other->second;
        if (old_value == new_value || std::ranges::find(free, name) != free.end()) continue;
        words += fmt::format("{}--{} was {}, and is {}", words.empty() ? "" : "; ", name, old_value, new_value);
    }
    return words;
}

std::vector<std::string> with_config_of_resumed(std::vector<std::string> arguments) {
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        std::string run;
        if (arguments[i].starts_with("--resume=")) run = arguments[i].substr(9);
        else if (arguments[i] == "--resume" && i + 1 < arguments.size()) run = arguments[i + 1];
        if (run.empty()) continue;
        require(std::filesystem::exists(std::filesystem::path(run) / "config.toml"),
                fmt::format("--resume {}: no run folder: it has no config.toml", run));
        arguments.insert(arguments.begin(), "--config=" + run);
        break;
    }
    return arguments;
}

} // namespace lategrad
