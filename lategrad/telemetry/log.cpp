#include "lategrad/telemetry/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace lategrad {

void log_to_stderr() {
    auto logger = std::make_shared<spdlog::logger>("lategrad", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    logger->set_pattern("lategrad: %l: %v");
    logger->set_level(spdlog::level::info);
    logger->flush_on(spdlog::level::warn);
    spdlog::set_default_logger(std::move(logger));
}

} // namespace lategrad
