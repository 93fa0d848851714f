/// Says on standard error who comes and goes in an elastic run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "lategrad/node/run_event.h"

namespace lategrad {

class Narrator {
  public:
    explicit Narrator(bool speaks) : speaks_(speaks) {}

    void listening(const std::string& endpoint, std::size_t min_workers, bool with_keys);
    void tell(const RunEvent& event);
    /// At the end: what was dropped because it made no sense.
    void faults(const std::map<std::string, std::uint64_t>& faults) const;

  private:
    bool speaks_;
    std::size_t here_ = 0;
};

} // namespace lategrad
