/// What a folder may include and name: the direction of dependencies, as a check anybody can run.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace lategrad {

/// The folders of lategrad/, by name.
const std::vector<std::string>& folders();

/// The folders whose headers `folder` may include, its own aside. REQUIRES: one of folders().
const std::set<std::string>& allowed_includes(std::string_view folder);

/// One line for each breach in a source file: "path:line: what". `path` is relative to the source tree and begins with
/// lategrad/ or cli/. Comments are not looked at.
std::vector<std::string> breaches(std::string_view path, std::string_view text);

/// The folders that a CMakeLists.txt of lategrad/ declares after DEPENDS.
std::set<std::string> declared_dependencies(std::string_view cmake);

} // namespace lategrad
