/// What must be true at every moment of a run: it goes on, deaths are noticed, memory is bounded, checkpoints are
/// whole.
#include <algorithm>

#include <fmt/format.h>

#include "lategrad/checkpoint/checkpoint.h"
#include "lategrad/checkpoint/folder.h"
#include "lategrad/core/error.h"
#include "tests/chaos/arena.h"

namespace lategrad::chaos {
namespace {

using std::chrono::seconds;

// Limits on a machine that has nothing else to do; stretched where it has.
constexpr Duration kDeathSeenWithin = seconds(15);
constexpr Duration kWarmUp = seconds(20);
constexpr std::uint64_t kMemoryMore = 64 << 20;

} // namespace

/// Workers that could make an update now, as far as is known.
std::size_t Arena::able() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(slots_, [](const Slot& slot) { return slot.joined && !slot.stopped && !slot.cut; }));
}

void Arena::check_stall() {
    const Wall now = WallClock::now();
    if (ending_ || server_ == 0 || tail_.resuming() || able() < options_.wait_for) {
        able_since_ = Wall::max();
        return;
    }
    able_since_ = std::min(able_since_, now);
    if (updated_ > able_since_) stalled_ = false;
    const Duration quiet = now - std::max(able_since_, updated_);
    if (stalled_ || quiet < stretched(options_.stall_after)) return;
    stalled_ = true;
    ++hangs_;
    wrong(fmt::format("no update for {:.1f} s, with {} able workers", lategrad::seconds(quiet), able()));
    for (const Slot& slot : slots_) {
        say(fmt::format("  {}: process {}{}{}{}", slot.name, slot.pid, slot.joined ? ", joined" : "",
                        slot.stopped ? ", stopped" : "", slot.cut ? ", cut off" : ""));
    }
}

void Arena::check_memory() {
    const Wall now = WallClock::now();
    if (server_ == 0 || now < memory_looked_ + seconds(1)) return;
    memory_looked_ = now;
    const auto bytes = resident_bytes(server_);
    if (!bytes) return;
    memory_most_ = std::max(memory_most_, *bytes);
    // Of all servers, by the first one's.
    const bool warms_up = server_starts_ == 1 && now < server_started_ + stretched(kWarmUp);
    check_growth(fmt::format("server {}", server_starts_), *bytes, warms_up, memory_warm_);
    for (Slot& slot : slots_) {
        const auto used = slot.pid == 0 ? std::nullopt : resident_bytes(slot.pid);
        if (!used) continue;
        const bool begins = !slot.was_joined || now < slot.joined_at + stretched(kWarmUp);
        check_growth(fmt::format("{}, process {},", slot.name, slot.pid), *used, begins, slot.memory_warm);
    }
}

/// `warm`: what it had at most while it warmed up.
void Arena::check_growth(const std::string& process, std::uint64_t bytes, bool warms_up, std::uint64_t& warm) {
    if (warms_up) {
        warm = std::max(warm, bytes);
    } else if (bytes > warm + warm / 4 + kMemoryMore) {
        wrong(fmt::format("{} has grown from {} MiB by more than a quarter and {} MiB", process, warm >> 20,
                          kMemoryMore >> 20));
    }
}

void Arena::check_kills() {
    while (!kills_.empty() && WallClock::now() > kills_.front().at + stretched(kDeathSeenWithin)) {
        ++unseen_kills_;
        wrong(fmt::format("the server has not noticed that {} is dead", kills_.front().name));
        kills_.pop_front();
    }
}

/// Whenever the server is killed, what has a checkpoint's name is one.
void Arena::look_at_checkpoints() {
    newest_whole_.reset();
    for (const FoundCheckpoint& found : find_checkpoints(run_folder() / "checkpoints")) {
        try {
            const Checkpoint checkpoint(found.path);
            const std::string what = not_finite(found.path / "weights.safetensors");
            if (!what.empty()) wrong(what);
            newest_whole_ = std::max(newest_whole_.value_or(found.version), found.version);
        } catch (const InputError& error) {
            wrong(error.what());
        }
    }
}

} // namespace lategrad::chaos
