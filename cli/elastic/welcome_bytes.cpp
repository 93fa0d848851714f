#include "cli/elastic/welcome_bytes.h"

#include <cstdint>
#include <cstring>

#include "lategrad/core/error.h"

namespace lategrad {

std::vector<std::byte> to_bytes(const Welcome& welcome) {
    const std::uint64_t config_bytes = welcome.config.size();
    std::vector<std::byte> bytes(sizeof config_bytes + welcome.config.size() + welcome.model.size());
    std::memcpy(bytes.data(), &config_bytes, sizeof config_bytes);
    std::memcpy(bytes.data() + sizeof config_bytes, welcome.config.data(), welcome.config.size());
    if (!welcome.model.empty()) {
        std::memcpy(bytes.data() + sizeof config_bytes + config_bytes, welcome.model.data(), welcome.model.size());
    }
    return bytes;
}

Welcome parse_welcome(std::span<const std::byte> bytes) {
    std::uint64_t config_bytes = 0;
    const bool has_length = bytes.size() >= sizeof config_bytes;
    if (has_length) std::memcpy(&config_bytes, bytes.data(), sizeof config_bytes);
    if (!has_length || config_bytes > bytes.size() - sizeof config_bytes) {
        throw InputError("the server's welcome is cut short");
    }
    const auto config = bytes.subspan(sizeof config_bytes, config_bytes);
    const auto model = bytes.subspan(sizeof config_bytes + config_bytes);
    return {.config = {reinterpret_cast<const char*>(config.data()), config.size()},
            .model = {model.begin(), model.end()}};
}

} // namespace lategrad
