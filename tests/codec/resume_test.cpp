/// Encoders, publishers and subscribers that were stored and read again go on as those that never stopped.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "lategrad/codec/change_history.h"
#include "lategrad/codec/publish.h"
#include "tests/codec/coding.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/stored.h"

namespace lategrad {
namespace {

const std::vector<std::string> kSpecs{"none",         "fp16",       "bf16+lz4",      "zstd:3",     "topk:0.05",
                                      "topk:0.3+lz4", "dgc:0.05",   "dgc:0.05,2",    "randk:0.05", "randk:0.3+zstd",
                                      "qsgd:4",       "qsgd:8+lz4", "terngrad",      "signsgd",    "signsgd+zstd",
                                      "lowrank:2",    "lowrank:64", "lowrank:2+zstd"};

constexpr std::size_t kElements = 5000;
constexpr std::size_t kTail = 3;

CodecSetup setup() {
    CodecSetup model = setup_of(kElements, kTail);
    model.momentum = 0.9;
    model.steps_per_epoch = 2; // so that dgc warms up while it is watched
    return model;
}

class ResumedEncoder : public testing::TestWithParam<std::string> {};

std::string test_name(const testing::TestParamInfo<std::string>& info) {
    std::string name = info.param;
    std::ranges::replace_if(
        name, [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
    return name;
}

INSTANTIATE_TEST_SUITE_P(, ResumedEncoder, testing::ValuesIn(kSpecs), test_name);

/// One gradient as a worker meets it: now and then what was sent comes back, or a gradient is of no use.
std::vector<std::byte> encode_one(Coding& coding, Encoder& encoder, RandomStream& random, std::uint64_t step) {
    std::vector<float> grad = gaussian(random, kElements + kTail);
    if (random.below(8) == 0) grad[random.below(kElements)] = std::numeric_limits<float>::infinity();
    const float scale = random.below(3) == 0 ? 0.5F : 1.0F;
    const bool comes_back = random.below(3) == 0;
    const Buffer payload = coding.encode(encoder, grad, step, scale);
    if (payload && coding.validate(payload) != Reason::none) return {};
    if (payload && comes_back) encoder.refund({payload.data(), payload.bytes()});
    return payload ? bytes_of(payload) : std::vector<std::byte>();
}

TEST_P(ResumedEncoder, EncodesAsIfItHadNeverStopped) {
    EXPECT_TRUE(rc::check([&](std::uint64_t seed) {
        RandomStream random(seed, Purpose::test);
        Coding coding(GetParam(), setup());
        const auto encoder = coding.encoder(3);
        std::uint64_t step = random.below(6);
        for (std::uint64_t i = 0; i < step; ++i) encode_one(coding, *encoder, random, i);
        const Stored stored = Stored::of(*encoder);
        const auto resumed = coding.encoder(3);
        for (std::uint64_t i = random.below(3); i > 0; --i) encode_one(coding, *resumed, random, i);
        BufferPool none(0);
        read_stored(stored, none, *resumed);
        RC_ASSERT(same_bits(encoder->residual(), resumed->residual()));
        for (int i = 0; i < 4; ++i, ++step) {
            RandomStream same = random;
            RC_ASSERT(encode_one(coding, *encoder, random, step) == encode_one(coding, *resumed, same, step));
        }
        RC_ASSERT(Stored::of(*encoder) == Stored::of(*resumed));
    }));
}

TEST_P(ResumedEncoder, IsReadOrRefusedWhereBytesAreDamaged) {
    RandomStream random(1, Purpose::test);
    Coding coding(GetParam(), setup());
    const auto encoder = coding.encoder();
    for (std::uint64_t i = 0; i < 3; ++i) encode_one(coding, *encoder, random, i);
    const Stored stored = Stored::of(*encoder);
    BufferPool none(0);
    const auto resumed = coding.encoder();
    for (int i = 0; i < 300; ++i) {
        refusal([&] { read_stored(damaged(stored, random), none, *resumed); });
        if (i % 10 == 0) encode_one(coding, *resumed, random, 4);
    }
}

TEST(ResumedEncoderOf, AnotherCodecOrModelIsRefused) {
    BufferPool none(0);
    Coding topk("topk:0.05", setup()), other("topk:0.1", setup()), smaller("topk:0.05", setup_of(kElements - 1, kTail));
    const Stored stored = Stored::of(*topk.encoder());
    EXPECT_EQ(refusal([&] { read_stored(stored, none, *topk.encoder()); }), "");
    EXPECT_TRUE(refusal([&] {
                    read_stored(stored, none, *other.encoder());
                }).ends_with("the codec: 'topk:0.05', but 'topk:0.1' here"));
    EXPECT_TRUE(refusal([&] {
                    read_stored(stored, none, *smaller.encoder());
                }).ends_with("floats of the residual: 5000, but 4999 here"));
}

RC_GTEST_PROP(ResumedChangeHistory, KnowsAllThatItKnew, (std::uint64_t seed)) {
    RandomStream random(seed, Purpose::test);
    const std::size_t words_max = 1 + random.below(60);
    ChangeHistory history(words_max), resumed(words_max);
    const auto add = [&](ChangeHistory& to) {
        std::vector<std::uint32_t> words(random.below(25));
        for (auto& word : words) word = static_cast<std::uint32_t>(random());
        to.add({}, words);
        return words;
    };
    history.clear(Version{random.below(5)});
    for (std::uint64_t i = random.below(40); i > 0; --i) add(history);
    for (std::uint64_t i = random.below(10); i > 0; --i) add(resumed);
    const Stored stored = Stored::of(history);
    BufferPool none(0);
    read_stored(stored, none, resumed);
    for (int i = 0; i < 20; ++i) {
        RC_ASSERT(history.newest() == resumed.newest());
        RC_ASSERT(history.oldest() == resumed.oldest());
        for (Version from = history.oldest(); from <= history.newest(); from = from.next()) {
            std::vector<std::uint32_t> a(history.words(from, history.newest()));
            std::vector<std::uint32_t> b(resumed.words(from, resumed.newest()));
            history.copy(from, history.newest(), a);
            resumed.copy(from, resumed.newest(), b);
            RC_ASSERT(a == b);
        }
        resumed.add({}, add(history));
    }
    for (int i = 0; i < 30; ++i) refusal([&] { read_stored(damaged(stored, random), none, resumed); });
}

const std::vector<std::string> kPublishSpecs{"none",
                                             "fp16",
                                             "bf16+zstd",
                                             "delta:bf16",
                                             "delta:lz4",
                                             "delta:qsgd:2",
                                             "delta:randk:0.1",
                                             "delta:lowrank:2",
                                             "delta:signsgd+zstd",
                                             "delta:topk:0.01",
                                             "delta:topk:0.3",
                                             "delta:topk:0.1+zstd"};

/// A server and its workers, as far as parameters are concerned.
struct Exchange {
    static constexpr std::size_t kWorkers = 3;

    explicit Exchange(const std::string& spec)
        : codec(spec, setup()),
          publisher(codec, memory, memory),
          params(kElements + kTail) {
        for (std::size_t i = 0; i < kWorkers; ++i) workers.push_back({Subscriber(codec, memory), std::nullopt});
    }

    void publish(RandomStream& random) {
        for (float& value : params) value += static_cast<float>(random.uniform() * random.uniform() - 0.25) * 0.01F;
        if (random.below(10) == 0) params[random.below(kElements)] = std::numeric_limits<float>::infinity();
        else std::ranges::replace(params, std::numeric_limits<float>::infinity(), 1.0F);
        Buffer leased = memory.lease(params.size() * sizeof(float));
        std::ranges::copy(params, leased.floats().begin());
        std::vector<Version> bases;
        for (const Worker& worker : workers) {
            if (worker.holds && random.below(2) == 0) bases.push_back(*worker.holds);
        }
        std::ranges::sort(bases);
        bases.erase(std::ranges::unique(bases).begin(), bases.end());
        version = published ? version.next() : version;
        published = true;
        publisher.publish(version, leased, bases, random.below(3) == 0);
    }
    /// What a worker is sent, and what it makes of it.
    std::pair<std::vector<std::byte>, std::vector<float>> send(RandomStream& random) {
        Worker& worker = workers[random.below(kWorkers)];
        const Buffer payload = publisher.payload(random.below(8) == 0 ? std::nullopt : worker.holds);
        CHECK(codec.validate({payload.data(), payload.bytes()}) == Reason::none);
        const Buffer decoded = worker.subscriber.decode(payload, version);
        CHECK(decoded);
        worker.holds = version;
        const auto floats = std::as_const(decoded).floats();
        return {bytes_of(payload), {floats.begin(), floats.end()}};
    }
    void run(RandomStream& random, std::uint64_t steps) {
        for (; steps > 0; --steps) {
            if (!published || random.below(2) == 0) publish(random);
            else send(random);
        }
    }

    void persist(Archive& archive) {
        archive.pools({&memory});
        archive(publisher, params, version, published);
        for (Worker& worker : workers) archive(worker.subscriber, worker.holds);
    }

    PublishCodec codec;
    BufferPool memory{std::size_t{1} << 30};
    Publisher publisher;
    std::vector<float> params;
    Version version;
    bool published = false;
    struct Worker {
        Subscriber subscriber;
        std::optional<Version> holds;
    };
    std::vector<Worker> workers;
};

class ResumedPublisher : public testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(, ResumedPublisher, testing::ValuesIn(kPublishSpecs), test_name);

TEST_P(ResumedPublisher, PublishesAsIfItHadNeverStopped) {
    EXPECT_TRUE(rc::check([&](std::uint64_t seed) {
        RandomStream random(seed, Purpose::test);
        Exchange exchange(GetParam()), resumed(GetParam());
        exchange.run(random, random.below(20));
        resumed.run(random, random.below(8)); // what it knew before does not matter
        const Stored stored = Stored::of(exchange);
        BufferPool none(0);
        {
            ArchiveReader reader(stored.state, stored.blobs, none);
            reader(resumed);
            RC_ASSERT(reader.finish());
        }
        for (int i = 0; i < 12; ++i) {
            RandomStream same = random;
            if (!exchange.published || random.below(2) == 0) {
                same = random;
                exchange.publish(random);
                resumed.publish(same);
                RC_ASSERT(same_bits(std::as_const(exchange.publisher.published()).floats(),
                                    std::as_const(resumed.publisher.published()).floats()));
            } else {
                same = random;
                const auto sent = exchange.send(random);
                const auto again = resumed.send(same);
                RC_ASSERT(sent.first == again.first);
                RC_ASSERT(same_bits(sent.second, again.second));
            }
            RC_ASSERT(exchange.memory.bytes_leased() == resumed.memory.bytes_leased());
        }
        RC_ASSERT(Stored::of(exchange) == Stored::of(resumed));
    }));
}

TEST_P(ResumedPublisher, IsReadOrRefusedWhereBytesAreDamaged) {
    RandomStream random(2, Purpose::test);
    Exchange exchange(GetParam());
    exchange.run(random, 15);
    const Stored stored = Stored::of(exchange);
    for (int i = 0; i < 60; ++i) {
        Exchange resumed(GetParam());
        BufferPool none(0);
        Stored changed = damaged(stored, random);
        if (!changed.blobs.empty()) changed.blobs[random.below(changed.blobs.size())] = std::byte{0x7f};
        const std::string why = refusal([&] { read_stored(changed, none, resumed); });
        if (!why.empty() || !resumed.published) continue;
        // What was read stays within its bounds, whatever it is.
        resumed.publisher.published();
        for (const Exchange::Worker& worker : resumed.workers) {
            if (!worker.holds || *worker.holds <= resumed.version) resumed.publisher.payload(std::nullopt);
        }
    }
}

} // namespace
} // namespace lategrad
