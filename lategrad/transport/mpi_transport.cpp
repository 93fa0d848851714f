#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "lategrad/transport/mpi_call.h"
#include "lategrad/transport/poll_pace.h"

namespace lategrad {
namespace {

/// What one peer sends and is sent. MPI writes into it, so that it must stay where it is while a request is pending.
struct Link {
    enum class In {
        header,  ///< a header is awaited
        memory,  ///< its payload waits for a buffer
        payload, ///< its payload is awaited, in place
        ready,   ///< a whole message lies in `decoded` and `arriving`
        alive,   ///< a beat has arrived
        gone,    ///< nothing more comes
    };
    enum class Out {
        open,
        goodbye_due, ///< to be said once what was taken over has left
        goodbye,     ///< on its way
        closed,
    };

    In in = In::header;
    Header header_in{};
    DecodedHeader decoded;
    Buffer arriving;
    bool broken = false;    ///< given up; what is ready is still delivered
    bool forgotten = false; ///< nothing is delivered

    Out out = Out::open;
    Header header_out{};
    Buffer leaving;
    bool refused = false; ///< a message found this link busy since it last had room
    Time alive_at{};      ///< when PeerAlive may be reported again
};

/// Requests by link: its receive, and the two parts of its one outstanding send.
constexpr std::size_t kIn = 0;
constexpr std::size_t kHeaderOut = 1;
constexpr std::size_t kPayloadOut = 2;
constexpr std::size_t kRequestsPerLink = 3;

struct Links {
    explicit Links(std::size_t count) : links(count), requests(count * kRequestsPerLink, MPI_REQUEST_NULL) {}

    std::vector<Link> links;
    std::vector<MPI_Request> requests;

    bool pending() const {
        return std::any_of(requests.begin(), requests.end(), [](MPI_Request r) { return r != MPI_REQUEST_NULL; });
    }
};

/// A request whose peer died never completes, and its memory must never be used again: it is kept for good.
void bury(std::unique_ptr<Links> links) {
    static auto& buried = *new std::vector<std::unique_ptr<Links>>;
    buried.push_back(std::move(links));
}

class PollingMpiTransport final : public MpiTransport {
  public:
    PollingMpiTransport(std::size_t rank, std::size_t size, bool crowded, const Clock& clock, const MpiOptions& options)
        : rank_(rank),
          options_(options),
          clock_(clock),
          pace_(crowded, clock.now()),
          payloads_(options.payloads_max * options.payload_bytes_max),
          all_(std::make_unique<Links>(rank == 0 ? size - 1 : 1)),
          ready_(all_->links.size()),
          indices_(all_->requests.size()),
          statuses_(all_->requests.size()) {
        for (std::size_t i = 0; i < all_->links.size(); ++i) await_header(i);
    }

    ~PollingMpiTransport() override {
        try {
            shutdown(Time::min());
        } catch (const EnvironmentError&) { // MPI has failed; whoever destroys this is on the way out
        }
        if (all_->pending()) bury(std::move(all_));
    }

    SendStatus try_send(Peer to, const Message& message) override {
        const std::size_t i = index_of(to);
        Link& link = all_->links[i];
        if (link.out != Link::Out::open) return SendStatus::gone;
        if (sending(i)) {
            link.refused = true;
            return SendStatus::busy;
        }
        link.leaving = message.payload;
        send_header(i, message);
        const std::size_t bytes = link.leaving.bytes();
        if (bytes > 0) {
            mpi_check(MPI_Isend(link.leaving.data(), static_cast<int>(bytes), MPI_BYTE, rank_of(i), kPayloadTag,
                                MPI_COMM_WORLD, &request(i, kPayloadOut)),
                      "MPI_Isend");
        }
        pace_.transferring(clock_.now(), bytes);
        return SendStatus::sent;
    }

    std::optional<Incoming> receive(Time deadline) override {
        for (;;) {
            beat();
            progress();
            while (ready_count_ > 0) {
                auto incoming = take();
                if (incoming) return incoming;
            }
            if (woken_.exchange(false) || std::exchange(writable_, false) || closed_) return std::nullopt;
            const Time now = clock_.now();
            if (deadline <= now) return std::nullopt;
            wait(now, deadline);
        }
    }

    void forget(Peer peer) override {
        const std::size_t i = index_of(peer);
        give_up(i, "silent for too long");
        all_->links[i].forgotten = true;
    }

    void wake() override {
        {
            const std::lock_guard lock(mutex_); // so that no sleeper misses it between looking and sleeping
            woken_ = true;
        }
        awake_.notify_one();
    }

    void shutdown(Time deadline) override {
        if (std::exchange(closed_, true)) return;
        for (std::size_t i = 0; i < all_->links.size(); ++i) close_out(i);
        for (;;) {
            progress();
            while (ready_count_ > 0) take(); // a peer must be able to get rid of what it is sending
            if (std::all_of(all_->links.begin(), all_->links.end(), is_closed)) break;
            const Time now = clock_.now();
            if (deadline <= now) break;
            wait(now, deadline);
        }
        clean_ = faults_.empty() && !all_->pending();
        // Best effort: a receive left behind would take a message of the next transport.
        for (std::size_t i = 0; i < all_->links.size(); ++i) {
            if (request(i, kIn) == MPI_REQUEST_NULL) continue;
            int done = 0;
            mpi_check(MPI_Cancel(&request(i, kIn)), "MPI_Cancel");
            mpi_check(MPI_Test(&request(i, kIn), &done, MPI_STATUS_IGNORE), "MPI_Test");
        }
    }

    bool clean() const override { return clean_; }
    const std::vector<std::string>& faults() const override { return faults_; }

  private:
    std::size_t index_of(Peer peer) const {
        CHECK(rank_ == 0 ? peer.value() - 1 < all_->links.size() : peer == kServerPeer);
        return rank_ == 0 ? peer.value() - 1 : 0;
    }
    int rank_of(std::size_t i) const { return rank_ == 0 ? static_cast<int>(i) + 1 : 0; }
    Peer peer_of(std::size_t i) const { return Peer{static_cast<std::uint32_t>(rank_of(i))}; }

    MPI_Request& request(std::size_t i, std::size_t kind) { return all_->requests[i * kRequestsPerLink + kind]; }
    bool sending(std::size_t i) {
        return request(i, kHeaderOut) != MPI_REQUEST_NULL || request(i, kPayloadOut) != MPI_REQUEST_NULL;
    }
    /// Nobody waits for a peer that is forgotten: what is on its way to one that died never leaves.
    static bool is_closed(const Link& link) {
        return link.forgotten || (link.in == Link::In::gone && link.out == Link::Out::closed);
    }

    /// Sees what arrived and left since the last call, without waiting.
    void progress() {
        int count = 0;
        const int result = MPI_Testsome(static_cast<int>(all_->requests.size()), all_->requests.data(), &count,
                                        indices_.data(), statuses_.data());
        if (result != MPI_ERR_IN_STATUS) mpi_check(result, "MPI_Testsome");
        if (count != MPI_UNDEFINED && count > 0) {
            pace_.progressed(clock_.now());
            for (int c = 0; c < count; ++c) {
                const auto index = static_cast<std::size_t>(indices_[static_cast<std::size_t>(c)]);
                const MPI_Status& status = statuses_[static_cast<std::size_t>(c)];
                const bool failed = result == MPI_ERR_IN_STATUS && status.MPI_ERROR != MPI_SUCCESS;
                completed(index / kRequestsPerLink, index % kRequestsPerLink, status, failed);
            }
        }
        for (std::size_t i = 0; waiting_for_memory_ > 0 && i < all_->links.size(); ++i) {
            if (all_->links[i].in == Link::In::memory && await_payload(i)) --waiting_for_memory_;
        }
    }

    void completed(std::size_t i, std::size_t kind, const MPI_Status& status, bool failed) {
        if (kind != kIn) {
            if (failed) give_up(i, "MPI failed to send to it");
            if (!sending(i)) left(i);
            return;
        }
        if (all_->links[i].in == Link::In::gone) return; // given up before
        int bytes = 0;
        if (!failed) mpi_check(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count");
        const std::span arrived(all_->links[i].header_in.data(), static_cast<std::size_t>(bytes));
        if (failed) give_up(i, "MPI failed to receive from it");
        else if (all_->links[i].in == Link::In::payload) payload_arrived(i, arrived.size());
        else if (arrived.empty()) goodbye_arrived(i);
        else header_arrived(i, arrived);
    }

    void header_arrived(std::size_t i, std::span<const std::byte> header) {
        Link& link = all_->links[i];
        const WireFault fault = decode_header(header, link.decoded);
        if (fault != WireFault::none) {
            give_up(i, to_string(fault));
        } else if (link.decoded.payload_bytes >
                   (link.decoded.message.type == MessageType::beat ? 0 : options_.payload_bytes_max)) {
            give_up(i, "a payload longer than any that belongs here");
        } else if (link.decoded.payload_bytes == 0) {
            make_ready(i, link.decoded.message.type == MessageType::beat ? Link::In::alive : Link::In::ready);
        } else if (!await_payload(i)) {
            link.in = Link::In::memory;
            ++waiting_for_memory_;
        }
    }

    void payload_arrived(std::size_t i, std::size_t bytes) {
        Link& link = all_->links[i];
        const auto& sum = link.decoded.payload_checksum;
        if (bytes != link.decoded.payload_bytes ||
            (sum && *sum != payload_checksum({link.arriving.data(), link.arriving.bytes()}))) {
            link.arriving.reset();
            give_up(i, "a payload that is not as its header announced");
        } else {
            make_ready(i, Link::In::ready);
        }
    }

    /// The peer sends no more. It still takes what is under way to it, and our own goodbye.
    void goodbye_arrived(std::size_t i) {
        make_ready(i, Link::In::gone);
        close_out(i);
    }

    /// This link failed, or what follows on it cannot be understood: nothing more of it is used. Its pending requests
    /// and their memory stay as they are.
    void give_up(std::size_t i, std::string_view why) {
        Link& link = all_->links[i];
        if (!std::exchange(link.broken, true)) {
            faults_.push_back("rank " + std::to_string(rank_of(i)) + ": " + std::string(why));
        }
        if (link.in == Link::In::memory) --waiting_for_memory_;
        // A link that lies in the ring goes there again when it is taken.
        if (link.in == Link::In::header || link.in == Link::In::memory || link.in == Link::In::payload) {
            make_ready(i, Link::In::gone);
        }
        close_out(i);
    }

    void make_ready(std::size_t i, Link::In in) {
        all_->links[i].in = in;
        ready_[(ready_first_ + ready_count_++) % ready_.size()] = i;
    }

    /// Nothing where it is of a peer that is forgotten.
    std::optional<Incoming> take() {
        const std::size_t i = ready_[ready_first_];
        ready_first_ = (ready_first_ + 1) % ready_.size();
        --ready_count_;
        Link& link = all_->links[i];
        if (link.in == Link::In::gone) {
            if (link.forgotten) return std::nullopt;
            return PeerGone{peer_of(i)};
        }
        const bool beat = link.in == Link::In::alive;
        Received received{peer_of(i), std::move(link.decoded.message)};
        received.message.payload = std::move(link.arriving);
        if (link.broken) make_ready(i, Link::In::gone);
        else await_header(i);
        if (link.forgotten) return std::nullopt;
        if (options_.heartbeat > Duration{0} || beat) {
            const Time now = clock_.now();
            if (beat && now < link.alive_at) return std::nullopt;
            link.alive_at = later(now, options_.heartbeat / 2);
        }
        if (beat) return PeerAlive{peer_of(i)};
        return received;
    }

    void await_header(std::size_t i) {
        all_->links[i].in = Link::In::header;
        mpi_check(MPI_Irecv(all_->links[i].header_in.data(), kHeaderBytes, MPI_BYTE, rank_of(i), kHeaderTag,
                            MPI_COMM_WORLD, &request(i, kIn)),
                  "MPI_Irecv");
    }

    /// False where there is no memory for it now.
    bool await_payload(std::size_t i) {
        Link& link = all_->links[i];
        link.arriving = payloads_.try_lease(link.decoded.payload_bytes);
        if (!link.arriving) return false;
        link.in = Link::In::payload;
        mpi_check(MPI_Irecv(link.arriving.data(), static_cast<int>(link.arriving.bytes()), MPI_BYTE, rank_of(i),
                            kPayloadTag, MPI_COMM_WORLD, &request(i, kIn)),
                  "MPI_Irecv");
        pace_.transferring(clock_.now(), link.arriving.bytes());
        return true;
    }

    /// A synchronous send completes when the peer has begun to receive it: a peer that takes nothing is found busy,
    /// instead of filling its MPI's memory with messages nobody awaits.
    void send_header(std::size_t i, const Message& message) {
        Link& link = all_->links[i];
        link.header_out = encode_header(message, options_.checksum);
        mpi_check(MPI_Issend(link.header_out.data(), kHeaderBytes, MPI_BYTE, rank_of(i), kHeaderTag, MPI_COMM_WORLD,
                             &request(i, kHeaderOut)),
                  "MPI_Issend");
    }

    /// Tells every peer to which nothing is on its way that we live, when it is time to.
    void beat() {
        if (options_.heartbeat == Duration{0} || closed_) return;
        const Time now = clock_.now();
        if (now < beat_at_) return;
        beat_at_ = later(now, options_.heartbeat);
        Message beat;
        beat.type = MessageType::beat;
        for (std::size_t i = 0; i < all_->links.size(); ++i) {
            if (all_->links[i].out == Link::Out::open && !sending(i)) send_header(i, beat);
        }
    }

    /// The outstanding send has left.
    void left(std::size_t i) {
        Link& link = all_->links[i];
        link.leaving.reset();
        if (std::exchange(link.refused, false)) writable_ = true;
        if (link.out == Link::Out::goodbye) link.out = Link::Out::closed;
        else if (link.out == Link::Out::goodbye_due) say_goodbye(i);
    }

    void close_out(std::size_t i) {
        Link& link = all_->links[i];
        if (link.out != Link::Out::open) return;
        link.out = Link::Out::goodbye_due;
        if (!sending(i)) say_goodbye(i);
    }

    void say_goodbye(std::size_t i) {
        all_->links[i].out = Link::Out::goodbye;
        mpi_check(MPI_Issend(nullptr, 0, MPI_BYTE, rank_of(i), kHeaderTag, MPI_COMM_WORLD, &request(i, kHeaderOut)),
                  "MPI_Issend");
    }

    void wait(Time now, Time deadline) {
        const PollPace::Pause pause = pace_.pause(now);
        if (pause.wait == PollPace::Wait::yield) std::this_thread::yield();
        if (pause.wait != PollPace::Wait::sleep) return;
        std::unique_lock lock(mutex_);
        awake_.wait_for(lock, std::min<Duration>(pause.sleep, deadline - now), [this] { return woken_.load(); });
    }

    std::size_t rank_;
    MpiOptions options_;
    const Clock& clock_;
    PollPace pace_;
    BufferPool payloads_;
    std::unique_ptr<Links> all_;

    std::vector<std::size_t> ready_; ///< a ring of links that have something to take, each at most once
    std::size_t ready_first_ = 0;
    std::size_t ready_count_ = 0;
    std::size_t waiting_for_memory_ = 0;
    bool writable_ = false; ///< a link that was busy has room again
    Time beat_at_{};
    bool closed_ = false;
    bool clean_ = false;
    std::vector<std::string> faults_;
    std::vector<int> indices_;
    std::vector<MPI_Status> statuses_;

    std::mutex mutex_; ///< only for sleeping and waking
    std::condition_variable awake_;
    std::atomic<bool> woken_ = false;
};

} // namespace

std::unique_ptr<MpiTransport> make_mpi_transport(std::size_t rank, std::size_t size, bool crowded, const Clock& clock,
                                                 const MpiOptions& options) {
    return std::make_unique<PollingMpiTransport>(rank, size, crowded, clock, options);
}

} // namespace lategrad
