/// Whole files: read (gunzipped where they are gzipped), and written so that a reader never sees half of one.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace lategrad {

/// The file's bytes, decompressed if it starts like a gzip file. Throws InputError naming the file: missing,
/// unreadable, damaged, or longer than `bytes_max` after decompression.
std::vector<std::byte> read_file(const std::filesystem::path& path, std::size_t bytes_max);

/// Writes to `path` + ".tmp", syncs, renames, and syncs the folder. Throws EnvironmentError naming the file, and
/// removes the temporary one.
void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes);
void write_file_atomically(const std::filesystem::path& path, std::string_view text);
/// The pieces one after the other, without a copy that joins them.
void write_file_atomically(const std::filesystem::path& path, std::span<const std::span<const std::byte>> pieces);

} // namespace lategrad
