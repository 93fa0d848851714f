/// Small tables of numbers that a user wrote: a first line that names the columns, then a line for each row.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lategrad {

/// The wanted fields of one row, in the order in which they were asked for.
struct CsvRow {
    const std::string& file;
    std::size_t line; ///< the first is 1
    std::span<const std::string_view> fields;

    std::string_view operator[](std::size_t i) const { return fields[i]; }
    /// Throws InputError naming file and line.
    [[noreturn]] void fail(const std::string& what) const;
};

/// Calls `each` with every row; empty lines are passed over. Throws InputError naming file and line where a column is
/// missing or a row has not as many fields as the first line.
void read_csv(const std::string& file, const std::vector<std::string_view>& columns,
              const std::function<void(const CsvRow&)>& each);

} // namespace lategrad
