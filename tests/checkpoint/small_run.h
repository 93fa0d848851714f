/// A run small enough to look at: some parameters, a buffer that two hold, and a count.
#pragma once

#include <algorithm>
#include <string>
#include <utility>

#include "lategrad/checkpoint/folder.h"

namespace lategrad {

struct SmallRun {
    explicit SmallRun(std::size_t floats = 1000) : pool(4 * floats * sizeof(float)), floats_(floats) {}

    /// The run's state at a version follows from it.
    void advance_to(std::uint64_t to) {
        version = Version{to};
        parameters = pool.lease(floats_ * sizeof(float));
        std::ranges::fill(parameters.floats(), static_cast<float>(to));
        held = parameters;
        notes.assign(static_cast<std::size_t>(to % 100), std::to_string(to));
    }
    bool is_at(std::uint64_t at) const {
        const auto is = [&](float value) { return value == static_cast<float>(at); };
        return version == Version{at} && parameters.floats().size() == floats_ &&
               std::ranges::all_of(parameters.floats(), is) && held.identity() == parameters.identity() &&
               notes.size() == at % 100 &&
               std::ranges::all_of(notes, [&](const std::string& note) { return note == std::to_string(at); });
    }

    void persist(Archive& archive) {
        archive.section("run");
        archive.pools({&pool});
        archive(version, parameters, held, notes);
    }
    CheckpointContents contents() {
        ArchiveWriter writer;
        persist(writer);
        const auto values = std::as_const(parameters).floats();
        return {.summary = {.kind = CheckpointSummary::Kind::simulation,
                            .version = version,
                            .seconds = 0.5,
                            .examples_applied = 64 * version.value(),
                            .incarnation = Incarnation{2},
                            .ledger = {{"pushed", 7}, {"lost", 1}}},
                .config_toml = "policy = \"reuse\"\n",
                .weights = {{"layer.weight", {2, static_cast<std::int64_t>(values.size() / 2)}, values}},
                .parameters = parameters,
                .state = writer.finish()};
    }
    void resume(const Checkpoint& checkpoint) {
        BufferPool none(0);
        CHECK(checkpoint.read_state(none, [&](Archive& archive) { persist(archive); }));
    }

    BufferPool pool;
    Version version;
    Buffer parameters;
    Buffer held;
    std::vector<std::string> notes;

  private:
    std::size_t floats_;
};

} // namespace lategrad
