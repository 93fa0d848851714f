/// Who computes on which part of the data, and how far each part has been walked through. A part whose worker is gone
/// for too long is given to a living one until its own is back.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "lategrad/core/gradient.h"
#include "lategrad/core/ids.h"
#include "lategrad/core/time.h"

namespace lategrad {

class DataPlan {
  public:
    /// `sizes`: examples in each part; empty: one part for each worker, of unknown size. Worker w is at home in part w,
    /// counted round where there are more workers than parts.
    DataPlan(std::vector<std::uint64_t> sizes, std::size_t workers, Duration reassign_after);

    struct Change {
        std::uint32_t part;
        WorkerId worker;
    };
    /// The run begins: parts that have no worker yet have been without one from now on.
    void begin(Time now);
    /// Its part is its own again. What changes hands is added to `changes`.
    void joined(WorkerId worker, std::vector<Change>& changes);
    void left(WorkerId worker, Time now);
    /// Gives away what has been without a worker for too long, each to who has least.
    void reassign(Time now, std::vector<Change>& changes);
    /// When to ask again.
    Time wake_at() const { return wake_at_; }

    /// Where the worker's next batch of so many examples begins: of its parts the one that is least advanced.
    DataPosition take(WorkerId worker, std::uint32_t examples);

    std::size_t parts() const { return parts_.size(); }
    /// Examples drawn of a part so far, counted again in each epoch.
    std::uint64_t position(std::uint32_t part) const { return parts_[part].position; }
    template <class A>
    void archive(A& archive) {
        archive.section("data");
        archive.expect(parts_.size(), "the parts of the data");
        const std::size_t places = here_.size();
        archive.expect(places, "the number of places");
        for (Part& part : parts_) {
            archive.expect(part.size, "a part's size");
            archive(part.position, part.at_home, part.orphan_since, part.adopted);
        }
        archive(here_, adopted_by_, wake_at_);
        archive.require(here_.size() == places && fits_together(), "parts of workers who do not have them");
    }

    /// The share of all examples that have been drawn at least once; none where sizes are unknown.
    std::optional<double> coverage() const;

  private:
    /// Of what was read.
    bool fits_together() const;
    struct Part {
        std::uint64_t size = 0;
        std::uint64_t position = 0;
        std::uint32_t at_home = 0; ///< how many of its own workers are here
        Time orphan_since = kNever;
        bool adopted = false;
    };
    std::uint32_t home(WorkerId worker) const { return worker.value() % static_cast<std::uint32_t>(parts_.size()); }
    void orphan(std::uint32_t part, Time since);

    std::vector<Part> parts_;
    std::vector<bool> here_;                             ///< by worker
    std::vector<std::vector<std::uint32_t>> adopted_by_; ///< by worker: the parts it has beside its own
    Duration reassign_after_;
    Time wake_at_ = kNever;
};

} // namespace lategrad
