#include "lategrad/transport/zmq.h"

#include <gtest/gtest.h>

#include <barrier>
#include <memory>
#include <thread>
#include <vector>

#include "contract.h"
#include "tests/files/temp_dir.h"
#include "zmq_parties.h"

namespace lategrad::testing {
namespace {

using namespace std::chrono_literals;

struct Ends {
    ZmqServerOptions server;
    ZmqClientOptions client;
};

void run_case(const ContractCase& contract_case, std::size_t workers, const Ends& ends = {}) {
    const SteadyClock clock;
    const auto server = listen(clock, ends.server);
    std::vector<std::unique_ptr<ZmqTransport>> clients;
    for (std::size_t i = 0; i < workers; ++i) clients.push_back(connected(clock, *server, ends.client));
    std::barrier meeting(static_cast<std::ptrdiff_t>(workers) + 1);
    const auto run = [&](Transport& transport, std::uint32_t peer) {
        Party party(transport, clock, Peer{peer}, workers, [&] { meeting.arrive_and_wait(); });
        play(contract_case, party);
        transport.shutdown(party.soon());
    };
    std::vector<std::jthread> threads;
    for (std::uint32_t peer = 1; peer <= workers; ++peer) {
        threads.emplace_back([&run, &clients, peer] { run(*clients[peer - 1], peer); });
    }
    run(*server, 0);
    for (std::size_t fault = 0; fault < kZmqFaults; ++fault) {
        EXPECT_EQ(server->faults()[static_cast<ZmqFault>(fault)], 0u) << to_string(static_cast<ZmqFault>(fault));
    }
}

class Zmq : public ::testing::TestWithParam<ContractCase> {};

TEST_P(Zmq, OneWorker) {
    run_case(GetParam(), 1);
}

TEST_P(Zmq, ThreeWorkers) {
    if (GetParam().name == "CarriesAnySizeOfPayload") GTEST_SKIP() << "between two ends alone";
    run_case(GetParam(), 3);
}

TEST_P(Zmq, WithKeys) {
    if (GetParam().name == "CarriesAnySizeOfPayload") GTEST_SKIP() << "encrypting it all takes seconds";
    const TempDir dir;
    create_keys(dir.path());
    Ends ends;
    ends.server.keys = read_server_keys(dir.path());
    ends.client.keys = read_worker_key(dir / "worker.key");
    run_case(GetParam(), 2, ends);
}

INSTANTIATE_TEST_SUITE_P(Contract, Zmq, ::testing::ValuesIn(contract_cases()),
                         [](const auto& info) { return info.param.name; });

} // namespace
} // namespace lategrad::testing
