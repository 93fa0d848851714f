/// The safetensors format (https://github.com/huggingface/safetensors): 8 bytes of header length, a JSON header, raw
/// little-endian data. Read and written here for weights, and read for the user's arrays.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace lategrad {

struct TensorEntry {
    std::string dtype; ///< "F32", "F64", "I64", "I32", "U8", …, as in the file
    std::vector<std::int64_t> shape;
    std::size_t begin = 0; ///< bytes, from the start of the data
    std::size_t end = 0;
    std::size_t elements() const;
};

/// A safetensors file mapped into memory, its header checked against its size.
class SafetensorsFile {
  public:
    /// Throws InputError naming the file and what is wrong with it.
    explicit SafetensorsFile(const std::filesystem::path& path);
    ~SafetensorsFile();
    SafetensorsFile(const SafetensorsFile&) = delete;
    SafetensorsFile& operator=(const SafetensorsFile&) = delete;

    const std::map<std::string, TensorEntry>& tensors() const { return tensors_; }
    const std::map<std::string, std::string>& metadata() const { return metadata_; }
    bool has(const std::string& name) const { return tensors_.contains(name); }
    /// Raw bytes. Throws InputError naming the file when there is no such tensor.
    std::span<const std::byte> bytes(const std::string& name) const;
    /// Converted where needed. Throws InputError for a dtype that does not convert without loss of meaning.
    std::vector<float> floats(const std::string& name) const;
    std::vector<std::int64_t> integers(const std::string& name) const;
    const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
    const std::byte* map_ = nullptr;
    std::size_t map_bytes_ = 0;
    std::size_t data_begin_ = 0;
    std::map<std::string, TensorEntry> tensors_;
    std::map<std::string, std::string> metadata_;
};

/// A float32 tensor to be written.
struct TensorView {
    std::string name;
    std::vector<std::int64_t> shape;
    std::span<const float> values;
};

/// What stands before the tensors' values, which follow one behind the other: for who writes the file himself.
std::string safetensors_header(std::span<const TensorView> tensors,
                               const std::map<std::string, std::string>& metadata = {});

/// Writes to a temporary name, syncs, renames. Throws EnvironmentError naming the file.
void write_safetensors(const std::filesystem::path& path, std::span<const TensorView> tensors,
                       const std::map<std::string, std::string>& metadata = {});

} // namespace lategrad
