/// The contract over MPI, and what only MPI has to show. Run by mpirun: every rank runs the same list in the same
/// order.
#include <gtest/gtest.h>
#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string_view>

#include "contract.h"
#include "lategrad/transport/mpi.h"
#include "lategrad/transport/mpi_launch.h"

namespace lategrad::testing {
namespace {

using namespace std::chrono_literals;

MpiSession* session = nullptr;
const SteadyClock run_clock;
constexpr MpiOptions kOptions{.payload_bytes_max = std::size_t{256} << 20, .payloads_max = 2};
constexpr Peer kFirst{1};

Peer self() {
    return Peer{static_cast<std::uint32_t>(session->rank())};
}

void run_case(const ContractCase& contract_case, const MpiOptions& options = kOptions) {
    const auto transport = session->make_transport(run_clock, options);
    Party party(*transport, run_clock, self(), session->size() - 1, [] { MPI_Barrier(MPI_COMM_WORLD); });
    play(contract_case, party);
    transport->shutdown(party.soon());
    EXPECT_TRUE(transport->clean());
    EXPECT_TRUE(transport->faults().empty());
}

class Mpi : public ::testing::TestWithParam<ContractCase> {};

TEST_P(Mpi, Keeps) {
    run_case(GetParam());
}

TEST_P(Mpi, KeepsWithChecksums) {
    MpiOptions options = kOptions;
    options.checksum = PayloadChecksum::yes;
    run_case(GetParam(), options);
}

INSTANTIATE_TEST_SUITE_P(Contract, Mpi, ::testing::ValuesIn(contract_cases()),
                         [](const auto& info) { return info.param.name; });

/// A payload waits with its sender until the receiver has let go of one before it.
TEST(MpiTransport, HoldsNoMorePayloadsThanAllowed) {
    static constexpr std::size_t kBytes = 100'000; // sent only when awaited: beyond MPI's eager limits
    const auto server = [](Party& party) {
        Message first = party.next_from(kFirst);
        party.meet(); // the second is on its way
        EXPECT_FALSE(party.transport.receive(party.clock.now() + 5ms));
        first.payload.reset();
        EXPECT_EQ(party.next_from(kFirst).payload.bytes(), kBytes);
        party.meet();
    };
    const auto worker = [](Party& party) {
        if (party.self == kFirst) {
            party.send(kServerPeer, party.message(0, party.payload(kBytes, 0)));
            party.send(kServerPeer, party.message(1, party.payload(kBytes, 1)));
        }
        party.meet();
        if (party.self == kFirst) party.send(kServerPeer, party.message(2));
        party.meet();
    };
    run_case({"HoldsNoMorePayloadsThanAllowed", server, worker}, {.payload_bytes_max = kBytes, .payloads_max = 1});
}

/// Ends that have nothing to say show that they live, and messages still come through.
TEST(MpiTransport, BeatsWhereItIsIdle) {
    const auto server = [](Party& party) {
        const Time start = party.clock.now();
        std::vector<std::size_t> beats(party.workers + 1);
        while (std::any_of(beats.begin() + 1, beats.end(), [](std::size_t count) { return count < 3; })) {
            const auto incoming = party.transport.receive(party.soon());
            ASSERT_TRUE(incoming && std::holds_alternative<PeerAlive>(*incoming));
            ++beats[std::get<PeerAlive>(*incoming).peer.value()];
        }
        EXPECT_GE(party.clock.now(), start + 2 * 1ms); // not more often than twice per heartbeat
        for (const Peer peer : party.worker_peers()) party.send(peer, party.message(peer.value()));
        for (const Peer peer : party.worker_peers()) EXPECT_EQ(party.next_from(peer).step.value(), peer.value());
    };
    const auto worker = [](Party& party) {
        // The server's message may come before the third beat: it counts others' than these.
        std::optional<Message> message;
        for (std::size_t beats = 0; beats < 3 || !message;) {
            auto incoming = party.transport.receive(party.soon());
            ASSERT_TRUE(incoming) << "own beats end no waiting";
            if (std::holds_alternative<PeerAlive>(*incoming)) ++beats;
            else message = std::get<Received>(std::move(*incoming)).message;
        }
        party.send(kServerPeer, *message);
    };
    MpiOptions options = kOptions;
    options.heartbeat = 2ms;
    run_case({"BeatsWhereItIsIdle", server, worker}, options);
}

/// What a broken or hostile peer 1 may send, with bare MPI.
struct Wrong {
    const char* what;
    void (*send)();
};

void send_raw(int tag, std::span<const std::byte> bytes, std::size_t count) {
    MPI_Send(bytes.data(), static_cast<int>(count), MPI_BYTE, 0, tag, MPI_COMM_WORLD);
}

Header header_of(std::size_t payload_bytes, PayloadChecksum checksum = PayloadChecksum::no) {
    BufferPool pool(payload_bytes);
    Message message;
    message.payload = pool.lease(payload_bytes);
    std::memset(message.payload.data(), 0, payload_bytes);
    return encode_header(message, checksum);
}

constexpr int kHeader = 1;
constexpr int kPayload = 2;
constexpr std::byte kOnes[200] = {std::byte{1}, std::byte{1}, std::byte{1}};

const Wrong kWrongs[] = {
    {"a header of noise", [] { send_raw(kHeader, kOnes, kHeaderBytes); }},
    {"a short header", [] { send_raw(kHeader, header_of(0), 20); }},
    {"a long header", [] { send_raw(kHeader, kOnes, 200); }},
    {"a payload beyond the limit", [] { send_raw(kHeader, header_of(1001), kHeaderBytes); }},
    {"a payload shorter than announced",
     [] {
         send_raw(kHeader, header_of(100), kHeaderBytes);
         send_raw(kPayload, kOnes, 99);
     }},
    {"a payload longer than announced",
     [] {
         send_raw(kHeader, header_of(100), kHeaderBytes);
         send_raw(kPayload, kOnes, 101);
     }},
    {"a payload that is not what its checksum says",
     [] {
         send_raw(kHeader, header_of(100, PayloadChecksum::yes), kHeaderBytes);
         send_raw(kPayload, kOnes, 100);
     }},
};

TEST(MpiTransport, GivesUpAPeerThatSendsNonsenseAndServesTheOthers) {
    for (const Wrong& wrong : kWrongs) {
        SCOPED_TRACE(wrong.what);
        if (self() == kFirst) {
            wrong.send();
            MPI_Recv(nullptr, 0, MPI_BYTE, 0, kHeader, MPI_COMM_WORLD, MPI_STATUS_IGNORE); // the server's goodbye
            continue;
        }
        const auto transport = session->make_transport(run_clock, {.payload_bytes_max = 1000, .payloads_max = 8});
        Party party(*transport, run_clock, self(), session->size() - 1, {});
        if (self() == kServerPeer) {
            const auto incoming = party.next_incoming(party.soon());
            ASSERT_TRUE(incoming && std::holds_alternative<PeerGone>(*incoming));
            EXPECT_EQ(std::get<PeerGone>(*incoming).peer, kFirst);
            EXPECT_EQ(transport->faults().size(), 1u);
            EXPECT_EQ(transport->try_send(kFirst, Message{}), SendStatus::gone);
            for (std::uint32_t peer = 2; peer < session->size(); ++peer) {
                party.send(Peer{peer}, party.message(peer));
                EXPECT_EQ(party.next_from(Peer{peer}).step.value(), peer);
            }
        } else {
            party.send(kServerPeer, party.next_from(kServerPeer));
        }
        transport->shutdown(party.soon());
        EXPECT_EQ(transport->clean(), self() != kServerPeer);
    }
}

/// Prints what failed on a rank whose other output would only repeat rank 0's.
class FailuresOnly : public ::testing::EmptyTestEventListener {
    void OnTestPartResult(const ::testing::TestPartResult& result) override {
        if (!result.failed()) return;
        std::fprintf(stderr, "rank %zu: %s:%d: %s\n", session->rank(), result.file_name(), result.line_number(),
                     result.message());
    }
};

/// Leaving does not hang on a peer that takes nothing and says nothing. Ends by _exit, as every such run must.
[[noreturn]] void leave_silent_peers() {
    constexpr int kDone = 99;
    if (self() == kServerPeer) {
        const auto transport = session->make_transport(run_clock, kOptions);
        Party party(*transport, run_clock, self(), session->size() - 1, {});
        const SendStatus status = transport->try_send(kFirst, party.message(0, party.payload(1 << 20, 0)));
        const Time deadline = run_clock.now() + 50ms;
        transport->shutdown(deadline);
        const double late = seconds(run_clock.now() - deadline);
        const bool right = status == SendStatus::sent && !transport->clean() && late >= 0 && late < 5 &&
                           !session->finish(transport->clean(), 5s);
        std::printf("left silent peers: %s\n", right ? "yes" : "no");
        std::fflush(stdout);
        for (std::size_t to = 1; to < session->size(); ++to) {
            MPI_Send(nullptr, 0, MPI_BYTE, static_cast<int>(to), kDone, MPI_COMM_WORLD);
        }
        _exit(right ? 0 : 1);
    }
    MPI_Recv(nullptr, 0, MPI_BYTE, 0, kDone, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    _exit(0);
}

} // namespace
} // namespace lategrad::testing

int main(int argc, char** argv) {
    using namespace lategrad;
    using namespace lategrad::testing;
    ::testing::InitGoogleTest(&argc, argv);
    const std::string_view mode = argc > 1 ? argv[1] : "";
    try {
        const auto opened = open_mpi_session();
        session = opened.get();
        if (mode == "silent-peers") leave_silent_peers();
        if (session->size() < 3) {
            std::fprintf(stderr, "run me by mpirun -n 4\n");
            return 1;
        }
        if (session->rank() != 0) {
            auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
            delete listeners.Release(listeners.default_result_printer());
            listeners.Append(new FailuresOnly);
        }
        const int result = RUN_ALL_TESTS();
        if (!session->finish(result == 0, 60s)) {
            std::fflush(nullptr);
            _exit(1);
        }
        return result;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        std::fflush(nullptr);
        _exit(2);
    }
}
