#include "lategrad/telemetry/table.h"

#include <algorithm>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

/// Characters, not bytes, of UTF-8: those that continue a character do not count.
std::size_t width(const std::string& text) {
    return static_cast<std::size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

} // namespace

void Table::add_row(std::vector<std::string> cells) {
    CHECK(cells.size() == columns_.size());
    rows_.push_back(std::move(cells));
}

std::string Table::text() const {
    std::vector<std::size_t> widths;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
        widths.push_back(width(columns_[i].header));
        for (const auto& row : rows_) widths[i] = std::max(widths[i], width(row[i]));
    }

    std::string out;
    const auto end_line = [&out] { out.erase(out.find_last_not_of(' ') + 1) += '\n'; };
    const auto add = [&](std::size_t i, const std::string& cell) {
        const std::string padding(widths[i] - width(cell), ' ');
        if (i > 0) out += "  ";
        out += columns_[i].align == Align::left ? cell + padding : padding + cell;
    };
    for (std::size_t i = 0; i < columns_.size(); ++i) add(i, columns_[i].header);
    end_line();
    for (std::size_t i = 0; i < columns_.size(); ++i) add(i, std::string(widths[i], '-'));
    end_line();
    for (const auto& row : rows_) {
        for (std::size_t i = 0; i < columns_.size(); ++i) add(i, row[i]);
        end_line();
    }
    return out;
}

} // namespace lategrad
