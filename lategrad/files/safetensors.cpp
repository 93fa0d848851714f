#include "lategrad/files/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <type_traits>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>
#include <sys/mman.h>
#include <sys/stat.h>

#include "lategrad/core/error.h"
#include "lategrad/files/descriptor.h"
#include "lategrad/files/file.h"

namespace lategrad {
namespace {

using Json = nlohmann::json;

static_assert(std::endian::native == std::endian::little, "the format is little-endian, and read without swapping");

constexpr std::size_t kLengthBytes = 8;
constexpr std::size_t kHeaderBytesMax = 100'000'000; // the published format's own limit
constexpr const char* kMetadata = "__metadata__";

struct Dtype {
    std::string_view name;
    std::size_t bytes;
};
constexpr std::array kDtypes = std::to_array<Dtype>({
    {"F64", 8},
    {"F32", 4},
    {"F16", 2},
    {"BF16", 2},
    {"I64", 8},
    {"I32", 4},
    {"I16", 2},
    {"I8", 1},
    {"U64", 8},
    {"U32", 4},
    {"U16", 2},
    {"U8", 1},
    {"BOOL", 1},
    {"C64", 8},
    {"F8_E4M3", 1},
    {"F8_E5M2", 1},
    {"F8_E8M0", 1},
});

/// The header's text, checked; every message begins with the file.
class HeaderReader {
  public:
    HeaderReader(std::string file, std::size_t data_bytes) : file_(std::move(file)), data_bytes_(data_bytes) {}

    void read(const std::string& text) {
        if (!text.starts_with('{')) fail("the header does not begin with '{{'");
        const Json header = parse(text);
        for (const auto& [name, value] : header.items())
            if (name == kMetadata) read_metadata(value);
            else tensors.emplace(name, read_entry(name, value));
        check_coverage();
    }

    std::map<std::string, TensorEntry> tensors;
    std::map<std::string, std::string> metadata;

  private:
    template <class... Args>
    [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
        throw InputError(file_ + ": not a valid safetensors file: " + fmt::format(format, std::forward<Args>(args)...));
    }

    /// nlohmann keeps the last of two equal keys; the format forbids them.
    Json parse(const std::string& text) const {
        std::vector<std::set<std::string>> keys; // of the objects that are open
        const auto watch = [&](int, Json::parse_event_t event, Json& parsed) {
            if (event == Json::parse_event_t::object_start) keys.emplace_back();
            if (event == Json::parse_event_t::object_end) keys.pop_back();
            if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second)
                fail("the header has {} twice", parsed.get<std::string>());
            return true;
        };
        Json header = Json::parse(text, watch, /*allow_exceptions=*/false);
        if (header.is_discarded()) fail("the header is not JSON");
        return header;
    }

    void read_metadata(const Json& value) {
        if (!value.is_object()) fail("{} is not an object", kMetadata);
        for (const auto& [key, text] : value.items()) {
            if (!text.is_string()) fail("{}.{} is not a string", kMetadata, key);
            metadata.emplace(key, text.get<std::string>());
        }
    }

    std::size_t unsigned_number(const std::string& name, const Json& value, const char* what) const {
        if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max())
            fail("tensor {}: {} is not a list of integers ≥ 0", name, what);
        return value.get<std::uint64_t>();
    }

    TensorEntry read_entry(const std::string& name, const Json& value) const {
        if (!value.is_object() || !value.contains("dtype") || !value.contains("shape") ||
            !value.contains("data_offsets"))
            fail("tensor {}: dtype, shape and data_offsets are needed", name);
        const Json &dtype = value["dtype"], &shape = value["shape"], &offsets = value["data_offsets"];
        if (!dtype.is_string()) fail("tensor {}: dtype is not a string", name);
        if (!shape.is_array()) fail("tensor {}: shape is not a list", name);
        if (!offsets.is_array() || offsets.size() != 2) fail("tensor {}: data_offsets is not [BEGIN, END]", name);

        TensorEntry entry;
        entry.dtype = dtype.get<std::string>();
        const auto known = std::find_if(kDtypes.begin(), kDtypes.end(), [&](Dtype d) { return d.name == entry.dtype; });
        if (known == kDtypes.end()) fail("tensor {}: unknown dtype {}", name, entry.dtype);
        std::size_t bytes = known->bytes;
        for (const Json& dimension : shape) {
            entry.shape.push_back(static_cast<std::int64_t>(unsigned_number(name, dimension, "shape")));
            if (__builtin_mul_overflow(bytes, static_cast<std::size_t>(entry.shape.back()), &bytes))
                fail("tensor {}: shape [{}] is too large", name, fmt::join(entry.shape, ", "));
        }
        entry.begin = unsigned_number(name, offsets[0], "data_offsets");
        entry.end = unsigned_number(name, offsets[1], "data_offsets");
        if (entry.begin > entry.end || entry.end > data_bytes_)
            fail("tensor {}: data_offsets [{}, {}] outside the {} bytes of data", name, entry.begin, entry.end,
                 data_bytes_);
        if (entry.end - entry.begin != bytes)
            fail("tensor {}: {} [{}] takes {} bytes, but data_offsets span {}", name, entry.dtype,
                 fmt::join(entry.shape, ", "), bytes, entry.end - entry.begin);
        return entry;
    }

    /// The tensors must cover the data exactly: no byte twice, none unused.
    void check_coverage() const {
        std::vector<const std::pair<const std::string, TensorEntry>*> in_order;
        for (const auto& tensor : tensors) in_order.push_back(&tensor);
        std::sort(in_order.begin(), in_order.end(), [](const auto* a, const auto* b) {
            return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
        });
        std::size_t covered = 0;
        for (const auto* tensor : in_order) {
            const auto& [name, entry] = *tensor;
            if (entry.begin < covered) fail("tensor {} overlaps another one at byte {} of the data", name, entry.begin);
            if (entry.begin > covered) fail("bytes {} to {} of the data belong to no tensor", covered, entry.begin);
            covered = entry.end;
        }
        if (covered < data_bytes_) fail("{} bytes after the last tensor", data_bytes_ - covered);
    }

    std::string file_;
    std::size_t data_bytes_;
};

struct Half {
    std::uint16_t bits;
    explicit operator float() const {
        const int exponent = (bits >> 10) & 0x1f;
        const int mantissa = bits & 0x3ff;
        float magnitude;
        if (exponent == 0x1f) magnitude = mantissa ? std::numeric_limits<float>::quiet_NaN() : INFINITY;
        else if (exponent == 0) magnitude = std::ldexp(static_cast<float>(mantissa), -24);
        else magnitude = std::ldexp(static_cast<float>(mantissa | 0x400), exponent - 25);
        return bits & 0x8000 ? -magnitude : magnitude;
    }
};

struct BFloat {
    std::uint16_t bits;
    explicit operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

/// Element by element: the format promises no alignment.
template <class From, class To>
std::vector<To> convert(std::span<const std::byte> bytes) {
    std::vector<To> values(bytes.size() / sizeof(From));
    if constexpr (std::is_same_v<From, To>) {
        if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    } else {
        for (std::size_t i = 0; i < values.size(); ++i) {
            From value;
            std::memcpy(&value, bytes.data() + i * sizeof(From), sizeof(From));
            values[i] = static_cast<To>(value);
        }
    }
    return values;
}

/// What an integer tensor converts to; false for another dtype. BOOL is 0 or 1.
template <class To>
bool convert_integers(const std::string& dtype, std::span<const std::byte> bytes, std::vector<To>& out) {
    if (dtype == "U8" || dtype == "BOOL") out = convert<std::uint8_t, To>(bytes);
    else if (dtype == "I8") out = convert<std::int8_t, To>(bytes);
    else if (dtype == "U16") out = convert<std::uint16_t, To>(bytes);
    else if (dtype == "I16") out = convert<std::int16_t, To>(bytes);
    else if (dtype == "U32") out = convert<std::uint32_t, To>(bytes);
    else if (dtype == "I32") out = convert<std::int32_t, To>(bytes);
    else if (dtype == "U64") out = convert<std::uint64_t, To>(bytes);
    else if (dtype == "I64") out = convert<std::int64_t, To>(bytes);
    else return false;
    return true;
}

} // namespace

std::size_t TensorEntry::elements() const {
    std::size_t product = 1;
    for (const std::int64_t dimension : shape) product *= static_cast<std::size_t>(dimension);
    return product;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : path_(path) {
    const std::string name = path.string();
    const Descriptor file = open_to_read(path);
    struct stat status {};
    if (::fstat(file.number(), &status) != 0 || !S_ISREG(status.st_mode)) throw InputError(name + ": not a plain file");
    const auto file_bytes = static_cast<std::size_t>(status.st_size);

    std::uint64_t header_bytes = 0;
    if (read_up_to(file, std::as_writable_bytes(std::span(&header_bytes, 1)), path) != kLengthBytes)
        throw InputError(name + ": not a valid safetensors file: shorter than the 8 bytes of its header's length");
    if (header_bytes > kHeaderBytesMax || header_bytes > file_bytes - kLengthBytes)
        throw InputError(fmt::format(
            "{}: not a safetensors file: its first 8 bytes announce a header of {} bytes, in a file of {} (at most {})",
            name, header_bytes, file_bytes, kHeaderBytesMax));
    std::string text(header_bytes, '\0');
    if (read_up_to(file, std::as_writable_bytes(std::span(text)), path) != text.size())
        throw InputError(name + ": became shorter while it was read");

    data_begin_ = kLengthBytes + text.size();
    HeaderReader header(name, file_bytes - data_begin_);
    header.read(text);
    tensors_ = std::move(header.tensors);
    metadata_ = std::move(header.metadata);

    // Last, so that nothing throws between here and the destructor's munmap.
    void* map = ::mmap(nullptr, file_bytes, PROT_READ, MAP_PRIVATE, file.number(), 0);
    if (map == MAP_FAILED) throw EnvironmentError(fmt::format("{}: cannot map: {}", name, error_text(errno)));
    map_ = static_cast<const std::byte*>(map);
    map_bytes_ = file_bytes;
}

SafetensorsFile::~SafetensorsFile() {
    ::munmap(const_cast<std::byte*>(map_), map_bytes_);
}

std::span<const std::byte> SafetensorsFile::bytes(const std::string& name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) throw InputError(fmt::format("{}: has no tensor {}", path_.string(), name));
    return {map_ + data_begin_ + found->second.begin, found->second.end - found->second.begin};
}

std::vector<float> SafetensorsFile::floats(const std::string& name) const {
    const auto raw = bytes(name);
    const std::string& dtype = tensors_.at(name).dtype;
    if (dtype == "F32") return convert<float, float>(raw);
    if (dtype == "F64") return convert<double, float>(raw);
    if (dtype == "F16") return convert<Half, float>(raw);
    if (dtype == "BF16") return convert<BFloat, float>(raw);
    std::vector<float> values;
    if (!convert_integers(dtype, raw, values))
        throw InputError(fmt::format("{}: tensor {} has dtype {}, which is not read as numbers; store it as F32",
                                     path_.string(), name, dtype));
    return values;
}

std::vector<std::int64_t> SafetensorsFile::integers(const std::string& name) const {
    std::vector<std::int64_t> values;
    const auto raw = bytes(name);
    const std::string& dtype = tensors_.at(name).dtype;
    if (!convert_integers(dtype, raw, values))
        throw InputError(fmt::format("{}: tensor {} has dtype {}, which is no integer; store it as I64", path_.string(),
                                     name, dtype));
    if (dtype == "U64") // wrapped around where it does not fit
        for (std::size_t i = 0; i < values.size(); ++i)
            if (values[i] < 0)
                throw InputError(fmt::format("{}: tensor {}: element {} is above 2^63 − 1", path_.string(), name, i));
    return values;
}

std::string safetensors_header(std::span<const TensorView> tensors,
                               const std::map<std::string, std::string>& metadata) {
    nlohmann::ordered_json header = nlohmann::ordered_json::object();
    if (!metadata.empty()) header[kMetadata] = metadata;
    std::size_t offset = 0;
    for (const TensorView& tensor : tensors) {
        const std::size_t end = offset + tensor.values.size_bytes();
        const TensorEntry entry{.dtype = "F32", .shape = tensor.shape, .begin = offset, .end = end};
        CHECK(entry.elements() == tensor.values.size());
        CHECK(tensor.name != kMetadata && !header.contains(tensor.name));
        header[tensor.name] = {{"dtype", entry.dtype}, {"shape", entry.shape}, {"data_offsets", {offset, end}}};
        offset = end;
    }
    std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
    text.append((8 - text.size() % 8) % 8, ' '); // so that the data is aligned
    const std::uint64_t length = text.size();
    return std::string(reinterpret_cast<const char*>(&length), sizeof length) + text;
}

void write_safetensors(const std::filesystem::path& path, std::span<const TensorView> tensors,
                       const std::map<std::string, std::string>& metadata) {
    const std::string header = safetensors_header(tensors, metadata);
    std::vector<std::span<const std::byte>> pieces{std::as_bytes(std::span(header))};
    for (const TensorView& tensor : tensors) pieces.push_back(std::as_bytes(tensor.values));
    write_file_atomically(path, pieces);
}

} // namespace lategrad
