#include "lategrad/torch/fingerprint.h"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string_view>

#include <ATen/Version.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <torch/version.h>

namespace lategrad {

namespace {

/// A function that one of the loaded libraries may have; null when none has it.
template <class Function>
Function* find(const char* name) {
    return reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
}

/// The file of the library that multiplies matrices for libtorch.
std::string blas_file() {
    Dl_info library{};
    void* sgemm = dlsym(RTLD_DEFAULT, "sgemm_");
    if (sgemm == nullptr || dladdr(sgemm, &library) == 0) return "inside libtorch";
    std::error_code error;
    const auto file = std::filesystem::canonical(library.dli_fname, error);
    return error ? library.dli_fname : file.string();
}

bool has_mkl() {
    return at::get_mkl_version() != "MKL not found";
}

std::string blas() {
    if (has_mkl()) return at::get_mkl_version();
    const std::string file = blas_file();
    auto* config = find<const char*()>("openblas_get_config");
    auto* core = find<const char*()>("openblas_get_corename");
    if (config == nullptr || core == nullptr || file.find("openblas") == std::string::npos) return file;
    return fmt::format("{}, kernels {}", config(), core());
}

std::string onednn() {
    auto* isa = find<int()>("dnnl_get_effective_cpu_isa");
    return isa ? fmt::format("instruction set {:#x}", isa()) : "inside libtorch";
}

/// The instruction set that libtorch's own kernels were picked for.
std::string instructions() {
    constexpr std::string_view label = "CPU capability usage: ";
    const std::string config = at::show_config();
    const std::size_t at = config.find(label);
    if (at == std::string::npos) return "unknown";
    const std::size_t begin = at + label.size();
    return config.substr(begin, config.find('\n', begin) - begin);
}

std::string processor() {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);)
        if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
    return "unknown";
}

/// FNV-1a: the same text, the same number, in every build.
std::uint64_t hash(const std::string& text) {
    std::uint64_t value = 0xcbf29ce484222325;
    for (const char letter : text) value = (value ^ static_cast<unsigned char>(letter)) * 0x100000001b3;
    return value;
}

} // namespace

Fingerprint fingerprint(int intra_op_threads) {
    return {{
        {"libtorch", TORCH_VERSION},
        {"libtorch build", fmt::format("{:016x}", hash(at::show_config()))},
        {"instructions", instructions()},
        {"blas", blas()},
        {"onednn", onednn()},
        {"processor", processor()},
        {"threads", std::to_string(intra_op_threads)},
    }};
}

std::vector<std::string> differences(const Fingerprint& recorded, const Fingerprint& here) {
    const auto value = [](const Fingerprint& print, const std::string& field) {
        const auto found = print.fields.find(field);
        return found == print.fields.end() ? std::string("nothing") : found->second;
    };
    std::map<std::string, std::string> all = recorded.fields;
    all.insert(here.fields.begin(), here.fields.end());
    std::vector<std::string> texts;
    for (const auto& [field, unused] : all)
        if (const std::string was = value(recorded, field), is = value(here, field); was != is)
            texts.push_back(fmt::format("{}: {} recorded, {} here", field, was, is));
    return texts;
}

bool reference_blas() {
    if (has_mkl()) return false;
    // Netlib's own; others that go by this file name keep it in a folder of their name.
    const std::filesystem::path file = blas_file();
    const std::string folder = file.parent_path().filename().string();
    return file.filename().string().starts_with("libblas.so") && folder.find("openblas") == std::string::npos &&
           folder.find("atlas") == std::string::npos && folder.find("blis") == std::string::npos;
}

} // namespace lategrad
