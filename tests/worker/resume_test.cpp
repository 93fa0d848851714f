/// What lies between messages and a worker's gradients, stored and read again.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "lategrad/worker/gradient_codecs.h"
#include "tests/testing/same_bits.h"
#include "tests/testing/stored.h"

namespace lategrad {
namespace {

TEST(ResumedResidualScale, RemembersWhereTheResidualWasLeft) {
    ResidualScale scale, resumed;
    resumed.encoded_at(4);
    BufferPool none(0);
    read_stored(Stored::of(scale), none, resumed);
    EXPECT_EQ(resumed.to(2), 1);
    scale.encoded_at(0.5F);
    read_stored(Stored::of(scale), none, resumed);
    EXPECT_EQ(resumed.to(2), scale.to(2));
    for (const float damaged : {-1.0F, std::numeric_limits<float>::infinity(), std::nanf("")}) {
        auto value = std::optional(damaged);
        EXPECT_NE(refusal([&] { read_stored(Stored::of(value), none, resumed); }), "");
    }
}

/// A worker with error feedback that is sent differences.
struct ResumableWorker {
    static constexpr std::size_t kSize = 500;
    CodecSetup setup{.elements = kSize};
    std::unique_ptr<Codec> codec = make_codec("topk:0.1", setup);
    PublishCodec publish_codec{"delta:topk:0.1", setup};
    WorkerBuffers buffers{*codec, kSize, 1};
    GradientCodecs codecs{*codec, publish_codec, WorkerId{2}, buffers};

    std::vector<std::byte> compute(const Buffer& params, Version version, RandomStream& random) {
        ComputeJob job;
        job.params = params;
        job.version = version;
        job.step = Step{version.value()};
        const Buffer decoded = codecs.decode(job);
        job.grad = buffers.gradients.lease(kSize * sizeof(float));
        for (std::size_t i = 0; i < kSize; ++i) {
            job.grad.floats()[i] = decoded.floats()[i] + static_cast<float>(random.uniform());
        }
        const Buffer payload = codecs.encode(job);
        return {payload.data(), payload.data() + payload.bytes()};
    }
    void persist(Archive& archive) {
        archive.pools({&buffers.params, &buffers.gradients, &buffers.payloads});
        archive(codecs);
    }
};

TEST(ResumedGradientCodecs, GoOnAsIfTheyHadNeverStopped) {
    RandomStream random(1, Purpose::test);
    BufferPool memory(std::size_t{1} << 20);
    ResumableWorker worker, resumed;
    Publisher publisher(worker.publish_codec, memory, memory);
    const auto published = [&](std::uint64_t version) {
        Buffer params = memory.lease(ResumableWorker::kSize * sizeof(float));
        for (float& value : params.floats()) value = static_cast<float>(random.uniform());
        publisher.publish(Version{version}, params, {});
        return publisher.payload(version == 0 ? std::nullopt : std::optional(Version{version - 1}));
    };
    for (std::uint64_t version = 0; version < 3; ++version)
        worker.compute(published(version), Version{version}, random);
    const Stored stored = Stored::of(worker);
    BufferPool none(0);
    {
        ArchiveReader reader(stored.state, stored.blobs, none);
        reader(resumed);
        EXPECT_TRUE(reader.finish());
    }
    EXPECT_TRUE(same_bits(worker.codecs.encoder().residual(), resumed.codecs.encoder().residual()));
    for (std::uint64_t version = 3; version < 6; ++version) {
        const Buffer params = published(version);
        RandomStream same = random;
        const auto payload = worker.compute(params, Version{version}, random);
        EXPECT_EQ(resumed.compute(params, Version{version}, same), payload);
    }
    EXPECT_EQ(Stored::of(worker), Stored::of(resumed));
}

} // namespace
} // namespace lategrad
