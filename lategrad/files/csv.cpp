#include "lategrad/files/csv.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"
#include "lategrad/files/file.h"

namespace lategrad {
namespace {

constexpr std::size_t kBytesMax = std::size_t{256} << 20;

} // namespace

void CsvRow::fail(const std::string& what) const {
    throw InputError(fmt::format("{}:{}: {}", file, line, what));
}

void read_csv(const std::string& file, const std::vector<std::string_view>& columns,
              const std::function<void(const CsvRow&)>& each) {
    const auto bytes = read_file(file, kBytesMax);
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const auto lines = split(text, '\n');
    const auto header = split(lines[0], ',');
    std::vector<std::size_t> places;
    for (const std::string_view column : columns) {
        places.push_back(static_cast<std::size_t>(std::find(header.begin(), header.end(), column) - header.begin()));
        if (places.back() == header.size()) {
            CsvRow{file, 1, {}}.fail(
                fmt::format("no column {}; the first line names the columns: {}", column, fmt::join(columns, ",")));
        }
    }
    std::vector<std::string_view> wanted(columns.size());
    for (std::size_t i = 1; i < lines.size(); ++i) {
        if (lines[i].empty()) continue;
        const auto fields = split(lines[i], ',');
        const CsvRow row{file, i + 1, wanted};
        if (fields.size() != header.size()) {
            row.fail(fmt::format("{} fields where the first line has {}", fields.size(), header.size()));
        }
        std::transform(places.begin(), places.end(), wanted.begin(), [&](std::size_t place) { return fields[place]; });
        each(row);
    }
}

} // namespace lategrad
