/// Whole files: read (gunzipped where they are gzipped), and written so that a reader never sees half of one.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "lategrad/core/error.h"

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

/// Writes the pieces one after the other to `path` itself and syncs the file: for the files of a folder that is to be
/// renamed as a whole. Throws EnvironmentError naming `known_as`, and removes the file.
void write_file_synced(const std::filesystem::path& path, std::span<const std::span<const std::byte>> pieces,
                       const std::filesystem::path& known_as);

/// Makes last what has been written to the file so far. Throws EnvironmentError naming it.
void sync_file(const std::filesystem::path& path);

/// Makes last what was made, renamed or removed in the folder. Throws EnvironmentError naming it.
void sync_folder(const std::filesystem::path& folder);

/// What failed with this errno while `path` was written, and what to do.
EnvironmentError write_error(const std::filesystem::path& path, int error);

} // namespace lategrad
