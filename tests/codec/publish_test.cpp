#include "lategrad/codec/publish.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>
#include <string>
#include <utility>

#include "lategrad/core/error.h"
#include "lategrad/core/random.h"
#include "tests/codec/allocations.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/simd_targets.h"

namespace lategrad {
namespace {

const std::vector<std::string> kStateless{"none", "fp16", "bf16", "lz4", "zstd:3", "blosc", "fp16+lz4", "bf16+zstd"};
const std::vector<std::string> kDense{
    "delta:bf16",     "delta:lz4",         "delta:randk:0.1",    "delta:randk:0.05+lz4", "delta:qsgd:8", "delta:qsgd:2",
    "delta:terngrad", "delta:qsgd:4+zstd", "delta:signsgd+zstd", "delta:lowrank:2",      "delta:signsgd"};
const std::vector<std::string> kSparse{"delta:topk:0.01", "delta:topk:0.1+zstd", "delta:topk:0.3"};

std::vector<std::string> all_specs() {
    std::vector<std::string> specs = kStateless;
    specs.insert(specs.end(), kDense.begin(), kDense.end());
    specs.insert(specs.end(), kSparse.begin(), kSparse.end());
    return specs;
}

/// Chunks of both lengths, the last ones not whole.
constexpr std::size_t kElements = 20'000;
constexpr std::size_t kTail = 7;

CodecSetup setup(std::size_t elements = kElements, std::size_t tail = kTail) {
    const std::size_t rows = elements / 200;
    return {.elements = elements,
            .tail = tail,
            .tensors = {{.rows = rows, .columns = 199}, {.rows = 1, .columns = elements - rows * 199}},
            .seed = 7};
}

std::span<const std::byte> bytes_of(const Buffer& buffer) {
    return {buffer.data(), buffer.bytes()};
}

std::vector<float> copy_of(const Buffer& params) {
    return {params.floats().begin(), params.floats().end()};
}

/// A server that publishes what a test makes of its parameters.
struct Server {
    explicit Server(const std::string& spec, const CodecSetup& model = setup())
        : codec(spec, model),
          publisher(codec, memory, memory),
          params(model.elements + model.tail) {
        for (float& value : params) value = normal();
    }

    /// About normal.
    float normal() { return static_cast<float>(random.uniform() + random.uniform() + random.uniform() - 1.5); }
    /// A step of training: most entries move a little, some more.
    void move() {
        for (float& value : params) value += normal() * normal() * 0.01F;
    }
    void publish(std::span<const Version> bases = {}, bool newcomers = false) {
        version = published ? version.next() : version;
        published = true;
        Buffer leased = memory.lease(params.size() * sizeof(float));
        std::ranges::copy(params, leased.floats().begin());
        publisher.publish(version, leased, bases, newcomers);
    }
    void publish_to(std::initializer_list<std::uint64_t> bases) {
        std::vector<Version> versions;
        for (const auto base : bases) versions.emplace_back(base);
        publish(versions);
    }
    std::vector<float> remainder() {
        std::vector<float> left = params;
        const auto floats = publisher.published().floats();
        for (std::size_t i = 0; i < left.size(); ++i) left[i] -= floats[i];
        return left;
    }

    PublishCodec codec;
    BufferPool memory{std::size_t{1} << 30};
    Publisher publisher;
    RandomStream random{11, Purpose::test};
    std::vector<float> params;
    Version version;
    bool published = false;
};

double norm(std::span<const float> values) {
    return std::sqrt(std::transform_reduce(values.begin(), values.end(), 0.0, std::plus<>(),
                                           [](float value) { return double{value} * value; }));
}

std::size_t whole_bytes(std::size_t floats = kElements + kTail) {
    return 24 + floats * sizeof(float);
}

TEST(PublishCodec, SaysWhatThereIs) {
    for (const char* spec :
         {"zip", "topk:0.01", "signsgd", "qsgd:8+lz4", "bf16+zip", "delta", "delta:none", "delta:dgc:0.01", "delta:zip",
          "delta:topk:2", "delta:delta:fp16", "", "zstd:99", "none+lz4", "delta:topk:0.1+zstd:99", "delta:dgc"}) {
        try {
            const PublishCodec codec(spec, setup());
            FAIL() << spec;
        } catch (const InputError& error) {
            EXPECT_TRUE(std::string_view(error.what()).starts_with(std::string("--publish-codec ") + spec + ": "))
                << error.what();
        }
    }
    EXPECT_EQ(PublishCodec("delta:topk:0.01+zstd", setup()).name(), "delta:topk:0.01+zstd");
}

TEST(PublishCodec, OffersOnlyWhatItTakes) {
    for (const char* spec : {"topk:2", "qsgd:1", "signsgd+zip", "lz4+zip", "delta:dgc", "delta:dgc:0.01",
                             "delta:none+zip", "delta:zip+zip"}) {
        try {
            const PublishCodec codec(spec, setup(), "--publish-codecs");
            FAIL() << spec;
        } catch (const InputError& error) {
            EXPECT_TRUE(std::string_view(error.what())
                            .starts_with(std::string("--publish-codecs ") + spec + ": expected none, fp16, bf16, "))
                << error.what();
        }
    }
}

TEST(Publish, NoneHandsTheParametersOn) {
    Server server("none");
    server.publish();
    const Buffer payload = server.publisher.payload(std::nullopt);
    EXPECT_EQ(payload.data(), server.publisher.published().data());
    EXPECT_EQ(payload.bytes(), server.codec.payload_bytes_max());
    Subscriber worker(server.codec, server.memory);
    EXPECT_EQ(payload.data(), worker.decode(payload, server.version).data());
    EXPECT_EQ(server.codec.validate(bytes_of(payload).first(8)), Reason::malformed);
}

/// Workers that skip versions, hold newer ones than the server knows of, leave and come back; the parameters move,
/// stay, jump, or cannot be encoded.
void random_schedule(const std::string& spec, std::vector<std::uint64_t>& digests) {
    struct Member {
        std::unique_ptr<Subscriber> subscriber;
        std::optional<Version> holds, known;
        Buffer computing;          // on these
        std::vector<float> expect; // what they must stay
    };
    Server server(spec);
    RandomStream random(5, Purpose::test);
    std::vector<Member> members(4);
    for (auto& member : members) member.subscriber = std::make_unique<Subscriber>(server.codec, server.memory);
    for (int round = 0; round < 30; ++round) {
        const double what = random.uniform();
        if (what < 0.6) server.move();
        else if (what < 0.7) server.params[random.below(kElements)] = 1e6F;
        else if (what < 0.75) server.params[random.below(kElements)] = std::numeric_limits<float>::max();
        else if (what < 0.8) std::ranges::fill(server.params, 0.25F);
        std::vector<Version> bases;
        for (const auto& member : members) {
            if (member.known) bases.push_back(*member.known);
        }
        std::ranges::sort(bases);
        bases.erase(std::unique(bases.begin(), bases.end()), bases.end());
        server.publish(bases);
        const auto published = copy_of(server.publisher.published());
        for (Member& member : members) {
            ASSERT_TRUE(!member.computing || same_bits(member.computing.floats(), member.expect));
            if (random.uniform() < 0.5) member.computing.reset();
            if (random.uniform() < 0.1) { // a new process
                member = {};
                member.subscriber = std::make_unique<Subscriber>(server.codec, server.memory);
            }
            if (random.uniform() < 0.3) continue;
            // At times the server learns what the worker holds after it has made its payloads ready.
            if (random.uniform() < 0.4) member.known = member.holds;
            const Buffer payload = server.publisher.payload(member.known);
            ASSERT_EQ(server.codec.validate(bytes_of(payload)), Reason::none) << spec;
            ASSERT_LE(payload.bytes(), server.codec.payload_bytes_max()) << spec;
            digests.push_back(XXH3_64bits(payload.data(), payload.bytes()));
            Buffer params = member.subscriber->decode(payload, server.version);
            ASSERT_TRUE(params) << spec;
            ASSERT_TRUE(same_bits(params.floats(), published)) << spec << " version " << server.version.value();
            member.holds = server.version;
            if (random.uniform() < 0.6) member.known = member.holds;
            member.computing = params;
            member.expect = published;
        }
    }
}

TEST(Publish, EveryWorkerHoldsWhatIsPublished) {
    for (const std::string& spec : all_specs()) {
        std::vector<std::uint64_t> once, again;
        random_schedule(spec, once);
        random_schedule(spec, again);
        EXPECT_EQ(once, again) << spec << ": not the same bytes";
        EXPECT_FALSE(once.empty());
    }
}

TEST(Publish, EveryWorkerHoldsWhatIsPublishedOnEveryTarget) {
    for (const std::string& spec : all_specs()) {
        std::vector<std::uint64_t> expected;
        on_every_simd_target([&](const char* target) {
            std::vector<std::uint64_t> payloads;
            random_schedule(spec, payloads);
            if (expected.empty()) expected = payloads;
            EXPECT_EQ(payloads, expected) << spec << ' ' << target; // as each decodes to what was published, so do all
        });
    }
}

TEST(Publish, AFewParametersTravelToo) {
    // The shortest payloads of gradient codecs are shorter than the header of all others.
    for (const std::string& spec : all_specs()) {
        for (std::size_t elements = 1; elements <= 5; ++elements) {
            Server server(spec, {.elements = elements});
            Subscriber worker(server.codec, server.memory);
            for (std::uint64_t i = 0; i < 3; ++i) {
                server.move();
                server.publish();
                const Buffer payload = server.publisher.payload(i == 0 ? std::nullopt : std::optional(Version{i - 1}));
                ASSERT_EQ(server.codec.validate(bytes_of(payload)), Reason::none) << spec << ' ' << elements;
                const Buffer params = worker.decode(payload, server.version);
                ASSERT_TRUE(same_bits(params.floats(), server.publisher.published().floats())) << spec;
            }
        }
    }
}

TEST(Publish, StatelessIsAsNearAsItsFormat) {
    for (const auto& [spec, relative] : std::map<std::string, double>{
             {"none", 0}, {"lz4", 0}, {"zstd:3", 0}, {"fp16", 0x1p-11}, {"bf16", 0x1p-8}, {"bf16+zstd", 0x1p-8}}) {
        Server server(spec);
        for (float& value : server.params) value = std::abs(value) + 0.001F;
        server.publish();
        const auto published = copy_of(server.publisher.published());
        for (std::size_t i = 0; i < published.size(); ++i) {
            ASSERT_LE(std::abs(published[i] - server.params[i]), relative * server.params[i]) << spec;
        }
        EXPECT_TRUE(same_bits(std::span(published).last(kTail), std::span(server.params).last(kTail))) << spec;
    }
}

TEST(Publish, SendsTheWholeWhereItCannotEncode) {
    for (const char* spec : {"fp16", "fp16+lz4"}) {
        Server server(spec);
        server.publish();
        EXPECT_LT(server.publisher.payload(std::nullopt).bytes(), whole_bytes());
        server.params[kElements / 2] = 70000;
        server.publish();
        const Buffer payload = server.publisher.payload(std::nullopt);
        EXPECT_EQ(payload.bytes(), whole_bytes());
        EXPECT_EQ(server.codec.validate(bytes_of(payload)), Reason::none);
        Subscriber worker(server.codec, server.memory);
        EXPECT_TRUE(same_bits(worker.decode(payload, server.version).floats(), server.params));
        EXPECT_TRUE(same_bits(server.publisher.published().floats(), server.params));
    }
}

TEST(Publish, GoesOnAfterWhatIsNotFinite) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    for (const std::string& spec : all_specs()) {
        for (const std::size_t place : {kElements / 2, kElements + 1}) {
            Server server(spec);
            Subscriber worker(server.codec, server.memory);
            server.publish();
            std::optional<Version> base;
            for (const float value : {1.0F, kInfinity, 1.0F, std::nanf(""), 2.0F, 3.0F}) {
                server.move();
                server.params[place] = value;
                base ? server.publish({{*base}}) : server.publish();
                const Buffer payload = server.publisher.payload(base);
                ASSERT_EQ(server.codec.validate(bytes_of(payload)), Reason::none);
                ASSERT_TRUE(
                    same_bits(worker.decode(payload, server.version).floats(), server.publisher.published().floats()))
                    << spec;
                base = server.version;
            }
            EXPECT_TRUE(std::isfinite(server.publisher.published().floats()[place])) << spec;
        }
    }
}

TEST(Publish, WhoHoldsTheFirstVersionIsSentTheWholeToo) {
    for (const std::string& spec : all_specs()) {
        Server server(spec);
        server.publish();
        for (int version = 1; version < 4; ++version) {
            server.params[kElements / 2] = std::numeric_limits<float>::infinity();
            server.publish_to({0});
            const Buffer payload = server.publisher.payload(Version{0});
            ASSERT_EQ(server.codec.validate(bytes_of(payload)), Reason::none) << spec;
            Subscriber worker(server.codec, server.memory);
            const Buffer params = worker.decode(payload, server.version);
            ASSERT_TRUE(params) << spec << ": what has changed since a version that is no longer known";
            EXPECT_TRUE(same_bits(params.floats(), server.publisher.published().floats())) << spec;
        }
    }
}

// delta

TEST(Publish, WhatOneIsSentDoesNotDependOnWhoAsksFirst) {
    constexpr std::uint64_t kForgotten = 0, kOld = ChangeHistory::kVersionsMax - 2, kNew = kOld + 8;
    for (const char* spec : {"delta:topk:0.01", "delta:topk:0.01+zstd", "delta:signsgd"}) {
        const auto sent = [&](std::initializer_list<std::uint64_t> bases) {
            Server server(spec);
            while (!server.published || server.version.value() <= kNew) {
                server.move();
                server.publish();
            }
            std::map<std::uint64_t, std::vector<std::byte>> payloads;
            for (const auto base : bases) {
                const auto payload = server.publisher.payload(Version{base});
                payloads[base].assign(bytes_of(payload).begin(), bytes_of(payload).end());
            }
            return payloads;
        };
        const auto payloads = sent({kForgotten, kOld, kNew});
        EXPECT_EQ(payloads.at(kForgotten).size(), whole_bytes()) << spec;
        EXPECT_LT(payloads.at(kNew).size(), payloads.at(kOld).size()) << spec;
        EXPECT_LT(payloads.at(kOld).size(), whole_bytes()) << spec;
        EXPECT_EQ(sent({kNew, kOld, kForgotten}), payloads) << spec;
        EXPECT_EQ(sent({kOld, kNew, kOld, kForgotten}), payloads) << spec;
    }
}

TEST(Publish, SendsValuesThatAreShorterBehindTheirLosslessStage) {
    Server server("delta:topk:0.5+zstd");
    Subscriber worker(server.codec, server.memory);
    std::ranges::fill(server.params, 0.0F);
    server.publish();
    worker.decode(server.publisher.payload(std::nullopt), server.version);
    for (const std::size_t first : {std::size_t{0}, kElements / 2}) { // one half, then the other
        std::fill_n(&server.params[first], kElements / 2, 1.0F);
        server.publish_to({0});
    }
    // Places and values of all entries: half as long again as floats, before they are compressed.
    const Buffer payload = server.publisher.payload(Version{0});
    EXPECT_LT(payload.bytes(), whole_bytes());
    EXPECT_TRUE(same_bits(worker.decode(payload, server.version).floats(), server.publisher.published().floats()));
}

TEST(Publish, TopKAddsTheLargestOfWhatIsMissing) {
    const std::size_t k = kElements / 100;
    Server server("delta:topk:0.01");
    server.publish();
    std::vector<float> expected = server.params;
    for (int version = 1; version < 6; ++version) {
        server.move();
        server.publish();
        // The slow twin.
        std::vector<float> missing(kElements);
        for (std::size_t i = 0; i < kElements; ++i) missing[i] = server.params[i] - expected[i];
        std::vector<std::size_t> order(kElements);
        std::iota(order.begin(), order.end(), 0);
        std::ranges::stable_sort(order, std::greater<>(), [&](std::size_t i) { return std::abs(missing[i]); });
        for (std::size_t i = 0; i < k; ++i) expected[order[i]] += missing[order[i]];
        std::copy_n(&server.params[kElements], kTail, &expected[kElements]);
        ASSERT_TRUE(same_bits(server.publisher.published().floats(), expected));
    }
}

TEST(Publish, WhatIsLeftOutStaysOnceAndComesLater) {
    // Publishes until the parameters, which have stopped to move, have arrived.
    struct Row {
        const char* spec;
        int publishes;
        double left;
    };
    for (const auto& [spec, publishes, left] :
         {Row{"delta:topk:0.1", 12, 1e-5}, Row{"delta:randk:0.1", 150, 1e-3}, Row{"delta:qsgd:8", 8, 1e-5},
          Row{"delta:signsgd", 300, 0.1}, Row{"delta:lowrank:2", 200, 1e-3}, Row{"delta:bf16", 3, 1e-5},
          Row{"delta:lz4", 2, 1e-6}}) {
        Server server(spec);
        server.publish();
        for (int i = 0; i < 5; ++i) {
            server.move();
            server.publish();
        }
        server.move();
        const double before = norm(server.remainder());
        for (int i = 0; i < publishes; ++i) server.publish();
        EXPECT_LT(norm(server.remainder()), left * before) << spec;
    }
}

TEST(Publish, ScalesUnbiasedDifferencesSoThatLeastIsLeftOut) {
    for (const std::string inner : {"qsgd:2", "qsgd:4", "qsgd:8", "terngrad"}) {
        Server server("delta:" + inner);
        CodecSetup setup_of_difference = setup();
        setup_of_difference.tail = 0;
        const auto codec = make_codec(inner, setup_of_difference);
        server.publish();
        for (int i = 0; i < 5; ++i) {
            const Version base = server.version;
            server.move();
            const std::vector<float> difference = server.remainder();
            server.publish({&base, 1});
            const Buffer payload = server.publisher.payload(base);
            const auto body = bytes_of(payload).subspan(24 + kTail * 4);
            const EncodedTerm encoded{body.subspan(8), 1};
            double along = 0, squares = 0;
            std::vector<float> decoded(codec->chunk());
            for (std::size_t first = 0; first < kElements; first += decoded.size()) {
                const std::size_t size = std::min(decoded.size(), kElements - first);
                codec->weighted_sum({&encoded, 1}, first, std::span(decoded).first(size));
                for (std::size_t j = 0; j < size; ++j) {
                    along += static_cast<double>(difference[first + j]) * decoded[j];
                    squares += static_cast<double>(decoded[j]) * decoded[j];
                }
            }
            float scale = 0;
            std::memcpy(&scale, &body[4], sizeof scale);
            EXPECT_NEAR(scale, std::min(along / squares, 1.0), 1e-6) << inner;
            EXPECT_EQ(scale < 0.9F, inner != "qsgd:8") << inner << ' ' << scale;
        }
    }
}

TEST(Publish, NothingRunsAway) {
    for (const char* spec : {"delta:qsgd:2", "delta:qsgd:4", "delta:terngrad", "delta:qsgd:8", "delta:signsgd"}) {
        Server server(spec);
        server.publish();
        server.move();
        double before = norm(server.remainder());
        const double first = before;
        for (int i = 0; i < 50; ++i) {
            server.publish();
            const double left = norm(server.remainder());
            ASSERT_LE(left, before * (1 + 1e-6)) << spec;
            before = left;
        }
        EXPECT_LT(before, 0.6 * first) << spec;
    }
}

TEST(Publish, SparseSendsFinalValuesOfTheUnion) {
    const std::size_t k = kElements / 100;
    Server server("delta:topk:0.01");
    Subscriber old(server.codec, server.memory);
    server.publish();
    old.decode(server.publisher.payload(std::nullopt), server.version);
    std::size_t single = 0;
    for (int version = 1; version <= 5; ++version) { // the same places, and one more each time
        for (std::size_t i = 0; i < k - 1; ++i) server.params[i * 100] += 1 + server.normal() * 0.1F;
        server.params[static_cast<std::size_t>(version) * 100 + 1] += 1;
        server.publish_to({0, server.version.value()});
        single = server.publisher.payload(Version{server.version.value() - 1}).bytes();
    }
    const Buffer all = server.publisher.payload(Version{0});
    EXPECT_EQ(all.bytes(), single + 4 * 6); // four entries more, of six bytes
    EXPECT_TRUE(same_bits(old.decode(all, server.version).floats(), server.publisher.published().floats()));
    EXPECT_TRUE(same_bits(server.publisher.published().floats(), server.params)); // all of it has been sent
}

TEST(Publish, DenseSendsDifferencesInOrder) {
    for (const char* spec : {"delta:signsgd", "delta:qsgd:2", "delta:lowrank:2"}) {
        Server server(spec);
        std::vector<Subscriber> workers;
        for (int i = 0; i < 4; ++i) workers.emplace_back(server.codec, server.memory);
        server.publish();
        for (auto& worker : workers) worker.decode(server.publisher.payload(std::nullopt), server.version);
        std::size_t one = 0;
        for (std::size_t version = 1; version <= 3; ++version) {
            server.move();
            server.publish_to({0, server.version.value()});
            const Buffer payload = server.publisher.payload(Version{server.version.value() - 1});
            one = payload.bytes() - 24 - kTail * 4;
            for (std::size_t i = version; i < 4; ++i) ASSERT_TRUE(workers[i].decode(payload, server.version));
        }
        server.move();
        server.publish_to({0});
        const Buffer all = server.publisher.payload(Version{0});
        EXPECT_EQ(all.bytes(), 24 + kTail * 4 + 4 * one) << spec;
        // Worker i holds version i, and skips what is in it.
        for (auto& worker : workers) {
            ASSERT_TRUE(same_bits(worker.decode(all, server.version).floats(), server.publisher.published().floats()))
                << spec;
        }
    }
}

TEST(Publish, SendsTheWholeWhereItIsNotLonger) {
    for (const char* spec : {"delta:qsgd:8", "delta:topk:0.3", "delta:lz4"}) {
        Server server(spec);
        server.publish();
        for (int i = 0; i < 8; ++i) {
            server.move();
            server.publish_to({0});
        }
        EXPECT_EQ(server.publisher.payload(Version{0}).bytes(), whole_bytes()) << spec;
        EXPECT_EQ(server.publisher.payload(server.version).bytes(), 24 + kTail * 4) << spec;
    }
}

TEST(Publish, IgnoresWhatItCannotAddTo) {
    Server server("delta:topk:0.01");
    server.publish();
    const Buffer whole = server.publisher.payload(std::nullopt);
    server.move();
    server.publish_to({0});
    const Buffer first = server.publisher.payload(Version{0});
    server.move();
    server.publish_to({1});
    const Buffer second = server.publisher.payload(Version{1});
    Subscriber worker(server.codec, server.memory);
    EXPECT_FALSE(worker.decode(first, Version{1})); // holds nothing
    EXPECT_TRUE(worker.decode(whole, Version{0}));
    EXPECT_FALSE(worker.decode(second, Version{2})); // from 1 on
    EXPECT_TRUE(worker.decode(first, Version{1}));
    EXPECT_TRUE(worker.decode(first, Version{1})); // again
    EXPECT_TRUE(same_bits(worker.decode(second, Version{2}).floats(), server.publisher.published().floats()));
    EXPECT_FALSE(worker.decode(first, Version{1})); // overtaken
}

TEST(Publish, WhatItWasToldOfIsReadyBeforeItIsAskedFor) {
    for (const char* spec : {"fp16", "delta:signsgd", "delta:qsgd:8", "delta:topk:0.1", "delta:topk:0.1+zstd"}) {
        Server server(spec);
        std::vector<Buffer> sent; // so that nothing is idle and a lease is memory more
        const auto asks = [&](std::optional<Version> base) {
            const std::size_t before = server.memory.bytes_allocated();
            sent.push_back(server.publisher.payload(base));
            ASSERT_EQ(server.memory.bytes_allocated(), before) << spec << ' ' << server.version.value();
            ASSERT_EQ(server.codec.validate(bytes_of(sent.back())), Reason::none);
        };
        server.publish();
        asks(std::nullopt); // nobody holds any yet
        for (int i = 1; i < 6; ++i) {
            server.move();
            server.publish_to({0, 1, server.version.value()}); // some of these are far behind: the whole is shorter
            for (const std::uint64_t base : {std::uint64_t{0}, std::uint64_t{1}, server.version.value() - 1}) {
                if (base < server.version.value()) asks(Version{base});
            }
        }
        server.move();
        server.publish({}, true);
        asks(std::nullopt);
        server.move();
        server.publish(); // told of nobody, and right all the same
        for (const auto base : {std::optional<Version>(), std::optional(Version{0}), std::optional(Version{5})}) {
            EXPECT_EQ(server.codec.validate(bytes_of(server.publisher.payload(base))), Reason::none);
        }
    }
}

TEST(Publish, SteadyStateAllocatesNothing) {
    for (const char* spec : {"bf16", "delta:topk:0.01", "delta:qsgd:8", "delta:signsgd"}) {
        Server server(spec);
        Subscriber worker(server.codec, server.memory);
        server.publish();
        worker.decode(server.publisher.payload(std::nullopt), server.version);
        long before = 0;
        for (int i = 1; i < 60; ++i) {
            if (i == 40) before = allocations(); // pools and lists have grown, the one of versions to 64
            const Version base = server.version;
            server.move();
            server.publish({&base, 1});
            worker.decode(server.publisher.payload(base), server.version);
        }
        EXPECT_EQ(allocations() - before, 0) << spec;
    }
}

// Hostile bytes

void put_checksum(std::span<std::byte> payload) {
    const std::uint64_t sum = XXH3_64bits(&payload[8], payload.size() - 8);
    std::memcpy(payload.data(), &sum, sizeof sum);
}

/// The payload inside, where there is one: its checksum is put right too.
void put_checksums(std::vector<std::byte>& payload) {
    std::uint32_t form = 0;
    std::memcpy(&form, &payload[8], sizeof form);
    const std::size_t body = 24 + kTail * 4;
    if (form == 0x756c6176 && payload.size() > body + 8) put_checksum(std::span(payload).subspan(body));
    if (form == 0x66666964 && payload.size() > body + 16) {
        std::uint32_t bytes = 0;
        std::memcpy(&bytes, &payload[body], sizeof bytes);
        if (bytes > 8 && bytes <= payload.size() - body - 8) put_checksum(std::span(payload).subspan(body + 8, bytes));
    }
    put_checksum(payload);
}

TEST(Publish, HostileBytesAreRejectedOrIgnored) {
    for (const std::string& spec : all_specs()) {
        if (spec == "none") continue;
        Server server(spec);
        server.publish();
        std::vector<Buffer> payloads{server.publisher.payload(std::nullopt)};
        Subscriber worker(server.codec, server.memory);
        worker.decode(payloads[0], server.version);
        for (int i = 0; i < 2; ++i) {
            server.move();
            server.publish_to({0});
            payloads.push_back(server.publisher.payload(Version{0}));
        }
        payloads.push_back(server.publisher.payload(server.version));
        RandomStream random(3, Purpose::test);
        std::size_t passed = 0, rejected = 0;
        const auto arrives = [&](std::span<const std::byte> bytes) {
            // At its own end of memory, for the address sanitizer.
            BufferPool exact(std::size_t{1} << 30);
            Buffer payload = exact.lease(bytes.size());
            if (!bytes.empty()) std::memcpy(payload.data(), bytes.data(), bytes.size());
            if (server.codec.validate(bytes_of(payload)) != Reason::none) {
                ++rejected;
                return false;
            }
            ++passed;
            worker.decode(payload, Version{random.below(4)});
            return true;
        };
        for (const Buffer& payload : payloads) {
            const std::vector<std::byte> good(payload.data(), payload.data() + payload.bytes());
            for (std::size_t size = 0; size < good.size(); size += size < 200 ? 1 : 997) {
                std::vector<std::byte> cut(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size));
                ASSERT_FALSE(arrives(cut)) << spec;
                if (size >= 24) put_checksums(cut);
                ASSERT_FALSE(arrives(cut)) << spec << ' ' << size;
            }
            std::vector<std::byte> longer = good;
            longer.resize(good.size() + 4);
            put_checksums(longer);
            EXPECT_FALSE(arrives(longer)) << spec;
            for (int i = 0; i < 150; ++i) {
                std::vector<std::byte> flipped = good;
                // Mostly in the headers.
                const std::size_t place =
                    random.below(random.uniform() < 0.7 ? std::min<std::size_t>(good.size(), 200) : good.size());
                flipped[place] ^= static_cast<std::byte>(1u << random.below(8));
                ASSERT_FALSE(arrives(flipped)) << spec << ' ' << place;
                put_checksums(flipped);
                arrives(flipped);
            }
        }
        EXPECT_GT(rejected, 0u);
        EXPECT_GT(passed, 0u) << spec;
    }
}

TEST(Publish, CountsAndBasesAreChecked) {
    for (const char* spec : {"delta:signsgd", "delta:topk:0.01", "bf16"}) {
        Server server(spec);
        server.publish();
        const Buffer whole = server.publisher.payload(std::nullopt);
        server.move();
        server.publish_to({0});
        const Buffer good = server.publisher.payload(Version{0});
        for (const std::uint32_t count : {0u, 1u, 2u, 0xffffffffu}) {
            for (const std::uint64_t base : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{2}, ~std::uint64_t{0}}) {
                Buffer changed = server.memory.lease(good.bytes());
                std::memcpy(changed.data(), good.data(), good.bytes());
                std::memcpy(changed.data() + 12, &count, sizeof count);
                std::memcpy(changed.data() + 16, &base, sizeof base);
                put_checksum({changed.data(), changed.bytes()});
                Subscriber worker(server.codec, server.memory);
                ASSERT_TRUE(worker.decode(whole, Version{0}));
                const bool same = std::ranges::equal(bytes_of(changed), bytes_of(good));
                const bool taken =
                    server.codec.validate(bytes_of(changed)) == Reason::none && worker.decode(changed, Version{1});
                EXPECT_EQ(taken, same) << spec << ' ' << count << ' ' << base;
            }
        }
    }
}

} // namespace
} // namespace lategrad
