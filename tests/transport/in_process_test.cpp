#include "lategrad/transport/in_process.h"

#include <gtest/gtest.h>

#include <barrier>
#include <thread>
#include <vector>

#include "contract.h"

namespace lategrad::testing {
namespace {

void run_case(const ContractCase& contract_case, std::size_t workers) {
    const SteadyClock clock;
    InProcessHub hub(workers, clock);
    std::barrier meeting(static_cast<std::ptrdiff_t>(workers) + 1);
    const auto run = [&](std::uint32_t peer) {
        const auto endpoint = hub.endpoint(Peer{peer});
        Party party(*endpoint, clock, Peer{peer}, workers, [&] { meeting.arrive_and_wait(); });
        play(contract_case, party);
        endpoint->shutdown(party.soon());
    };
    std::vector<std::jthread> threads;
    for (std::uint32_t peer = 1; peer <= workers; ++peer) threads.emplace_back([&run, peer] { run(peer); });
    run(0);
}

class InProcess : public ::testing::TestWithParam<ContractCase> {};

TEST_P(InProcess, OneWorker) {
    run_case(GetParam(), 1);
}

TEST_P(InProcess, ThreeWorkers) {
    run_case(GetParam(), 3);
}

INSTANTIATE_TEST_SUITE_P(Contract, InProcess, ::testing::ValuesIn(contract_cases()),
                         [](const auto& info) { return info.param.name; });

TEST(InProcessHub, ServesThirtyTwoWorkers) {
    for (const ContractCase& contract_case : contract_cases()) {
        if (contract_case.name == "AnswersManyPeers" || contract_case.name == "KeepsOrderPerPeer") {
            run_case(contract_case, 32);
        }
    }
}

TEST(InProcessHub, SharesPayloadsInsteadOfCopying) {
    const SteadyClock clock;
    InProcessHub hub(1, clock);
    const auto server = hub.endpoint(kServerPeer);
    const auto worker = hub.endpoint(Peer{1});
    BufferPool pool(4096);
    Message message;
    message.payload = pool.lease(100);
    ASSERT_EQ(worker->try_send(kServerPeer, message), SendStatus::sent);
    const auto incoming = server->receive(kNever);
    ASSERT_TRUE(incoming);
    EXPECT_EQ(std::get<Received>(*incoming).message.payload.data(), message.payload.data());
}

TEST(InProcessHub, AnEndDestroyedIsAnEndShutDown) {
    const SteadyClock clock;
    InProcessHub hub(2, clock);
    const auto server = hub.endpoint(kServerPeer);
    auto worker = hub.endpoint(Peer{2});
    ASSERT_EQ(worker->try_send(kServerPeer, Message{}), SendStatus::sent);
    worker.reset();
    EXPECT_TRUE(std::holds_alternative<Received>(server->receive(kNever).value()));
    EXPECT_EQ(std::get<PeerGone>(server->receive(kNever).value()).peer, Peer{2});
    EXPECT_EQ(server->try_send(Peer{2}, Message{}), SendStatus::gone);
    EXPECT_EQ(server->try_send(Peer{1}, Message{}), SendStatus::sent); // which has not begun to receive
}

} // namespace
} // namespace lategrad::testing
