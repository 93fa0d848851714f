/// What every transport must do, as one list of cases. Each case is two scripts that run at once: the server's and
/// every worker's, as threads of one process or as processes of their own.
#pragma once

#include <deque>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "lategrad/transport/clock.h"
#include "lategrad/transport/transport.h"

namespace lategrad::testing {

/// One end in a case. Sending and taking never wait for more than a minute; then the case fails.
class Party {
  public:
    /// `meet` returns when every party has called it, without moving messages.
    Party(Transport& transport, const Clock& clock, Peer self, std::size_t workers, std::function<void()> meet)
        : transport(transport),
          clock(clock),
          self(self),
          workers(workers),
          meet(std::move(meet)),
          pool_(kPoolBytes) {}

    Transport& transport;
    const Clock& clock;
    const Peer self;
    const std::size_t workers;
    const std::function<void()> meet;

    /// Sends, taking in what arrives while the way is busy.
    void send(Peer to, const Message& message);
    /// The next message of anyone, or of this peer; departures before it are skipped, unless it is this peer's.
    Received next();
    Message next_from(Peer peer);
    /// Whatever comes next, if it comes in time.
    std::optional<Incoming> next_incoming(Time deadline);

    Time soon() const { return clock.now() + std::chrono::seconds(60); }
    /// `bytes` bytes that depend on `seed`.
    Buffer payload(std::size_t bytes, std::uint64_t seed);
    Message message(std::uint64_t step, Buffer payload = {});
    std::vector<Peer> worker_peers() const;

  private:
    static constexpr std::size_t kPoolBytes = std::size_t{600} << 20;
    std::optional<Received> stashed(std::optional<Peer> from);

    BufferPool pool_;
    std::deque<Received> stash_;
};

struct ContractCase {
    std::string name;
    void (*server)(Party&);
    void (*worker)(Party&);
};

/// For GoogleTest, which otherwise prints the bytes, addresses among them.
inline void PrintTo(const ContractCase& contract_case, std::ostream* out) {
    *out << contract_case.name;
}

const std::vector<ContractCase>& contract_cases();

/// Runs one side of a case and turns what it throws into a test failure.
void play(const ContractCase& contract_case, Party& party);

} // namespace lategrad::testing
