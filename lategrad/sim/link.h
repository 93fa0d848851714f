/// Links in virtual time: how long messages take when they share a server's network card.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <queue>
#include <string_view>
#include <utility>
#include <vector>

#include "lategrad/core/time.h"

namespace lategrad {

inline constexpr double kUnlimited = std::numeric_limits<double>::infinity();

struct LinkOptions {
    double worker_rate = kUnlimited; ///< bytes per second, of each worker in each direction
    double server_rate = kUnlimited; ///< bytes per second, of each server in each direction
    Duration latency{0};             ///< of every message, after its last byte has left
    std::uint32_t servers = 1;       ///< the parameters are split over so many, in equal shards

    bool unlimited() const { return worker_rate == kUnlimited && server_rate == kUnlimited; }

    /// `--link RATE[,LATENCY]` as in `1Gbit,100us`. The servers' rate becomes the same. Throws InputError.
    void parse_link(std::string_view spec);
    /// `--server-link RATE`. Throws InputError.
    void parse_server_link(std::string_view spec);
};

/// One direction between the servers and their workers. Transfers under way share the servers' rate equally, and none
/// is faster than its worker's own: with m of them each goes at min(worker, server / m), which is max-min fair because
/// all workers' links are alike. (With S servers every message is S slices, one on each server's link, and each of
/// those links carries the same load; so they are one link of S times the rate.)
class SharedLink {
  public:
    /// Bytes per second of one transfer at most, and of all together.
    SharedLink(double transfer_rate, double total_rate);

    /// REQUIRES: no transfer of this worker is under way; `now` never goes back.
    void start(Time now, std::uint32_t worker, double bytes);
    /// The transfer ends where it is.
    void cut(Time now, std::uint32_t worker);

    /// When the next transfer ends if none is started or cut before; rounded up to a nanosecond;
    /// kNever where it takes longer than kSecondsMax.
    std::optional<Time> next_end() const;
    /// A worker whose transfer has ended by now; it is under way no more. In the order in which they ended, then by
    /// worker.
    std::optional<std::uint32_t> take_ended(Time now);

    template <class A>
    void archive(A& archive) {
        archive.section("link");
        drop_cut();
        std::vector<Transfer> transfers;
        if (!archive.reading()) {
            for (auto rest = ends_; !rest.empty(); rest.pop()) transfers.push_back(rest.top());
        }
        archive(now_, served_, bytes_moved_, under_way_, next_id_, current_, transfers);
        for (const Transfer& transfer : transfers) {
            archive.require(transfer.worker < current_.size() && transfer.ends_at < kUnlimited,
                            "a transfer of nobody, or without an end");
        }
        ends_ = decltype(ends_)(std::greater<>(), std::move(transfers));
    }

    /// Moved so far, up to the last call.
    double bytes_moved() const { return bytes_moved_; }

  private:
    struct Transfer {
        double ends_at = 0; ///< in units of served_
        std::uint32_t worker = 0;
        std::uint64_t id = 0;
        template <class A>
        void archive(A& archive) {
            archive(ends_at, worker, id);
        }
        friend bool operator>(const Transfer& a, const Transfer& b) {
            return std::pair(a.ends_at, a.worker) > std::pair(b.ends_at, b.worker);
        }
    };
    double rate() const;
    void advance(Time now);
    void drop_cut() const;

    double transfer_rate_;
    double total_rate_;
    Time now_{};
    double served_ = 0; ///< bytes that a transfer under way since the link was last idle would have moved
    double bytes_moved_ = 0;
    std::size_t under_way_ = 0;
    std::uint64_t next_id_ = 1;
    std::vector<std::uint64_t> current_; ///< by worker: the id of its transfer under way; 0: none
    mutable std::priority_queue<Transfer, std::vector<Transfer>, std::greater<>> ends_; ///< cut ones are dropped late
};

} // namespace lategrad
