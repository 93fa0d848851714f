/// Options as text: numbers, and files of TOML, which are `--config` and the config.toml of a run folder. Needs nothing
/// of a run's options but their names.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
class Option;
} // namespace CLI

namespace lategrad {

/// Refuses what is not a number of things.
void take_whole_numbers(CLI::Option& option);
/// Refuses what is not a number, or not finite.
void take_numbers(CLI::Option& option);

/// A line of TOML.
std::string toml_line(std::string_view key, const std::string& text);

/// The arguments with those of every `--config FILE.toml` put in front, so that the command line wins. A table in it
/// that has a command's name holds options of that command's own.
/// Throws InputError naming the file and the line.
std::vector<std::string> expand_config(const CLI::App& command, std::vector<std::string> arguments);

/// How the options of a run that is resumed differ from what they were, in words; empty where only those of `free` do.
/// Both are texts of config.toml.
std::string changed_options(std::string_view before, std::string_view now, std::span<const std::string_view> free);

/// The arguments with `--config RUN` in front where they have `--resume RUN`: a run that is resumed has its options in
/// its folder. Throws InputError where that is no run folder.
std::vector<std::string> with_config_of_resumed(std::vector<std::string> arguments);

} // namespace lategrad
