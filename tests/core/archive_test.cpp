#include "lategrad/core/archive.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <limits>

#include "lategrad/core/fate.h"
#include "lategrad/core/gradient.h"
#include "lategrad/core/time.h"
#include "tests/codec/allocations.h"
#include "tests/testing/stored.h"

namespace lategrad {
namespace {

using testing::HasSubstr;

template <class T>
void read(const Stored& stored, T& value) {
    BufferPool pool(std::size_t{1} << 20);
    read_stored(stored, pool, value);
}

struct Inner {
    int number = 0;
    std::string text;
    void persist(Archive& archive) { archive(number, text); }
    friend bool operator==(const Inner&, const Inner&) = default;
};

/// Archived by a function beside it.
struct Foreign {
    double value = 0;
    friend bool operator==(const Foreign&, const Foreign&) = default;
};
void persist(Archive& archive, Foreign& foreign) {
    archive(foreign.value);
}

struct Everything {
    std::int8_t small = 0;
    std::uint64_t large = 0;
    float single = 0;
    double number = 0;
    bool flag = false;
    Reason reason = Reason::none;
    WorkerId worker;
    Version version;
    Time at{};
    Duration wait{};
    std::string text;
    std::vector<float> floats;
    std::vector<bool> bits;
    std::vector<Inner> inners;
    std::deque<Step> steps;
    std::optional<Inner> maybe;
    std::map<std::uint32_t, std::string> names;
    std::set<std::string> words;
    std::array<std::uint16_t, 3> three{};
    std::array<Inner, 2> two;
    std::pair<int, std::string> pair;
    std::tuple<int, Foreign> tuple;
    std::variant<int, std::string, Inner> variant;
    std::vector<std::optional<std::vector<DataPosition>>> nested;

    void persist(Archive& archive) {
        archive.section("everything");
        archive(small, large, single, number, flag);
        archive.enumerator(reason, kLastReason);
        archive(worker, version, at, wait, text, floats, bits, inners, steps, maybe);
        archive.section("second half");
        archive(names, words, three, two, pair, tuple, variant, nested);
    }
    friend bool operator==(const Everything&, const Everything&) = default;
};

template <class T>
std::vector<T> drawn(RandomStream& random, T (*draw)(RandomStream&)) {
    std::vector<T> values(random.below(4));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = draw(random);
    return values;
}

std::string draw_text(RandomStream& random) {
    std::string text(random.below(6), ' ');
    for (char& c : text) c = static_cast<char>(random.below(256));
    return text;
}

Inner draw_inner(RandomStream& random) {
    return {static_cast<int>(random()), draw_text(random)};
}

Everything draw_everything(RandomStream& random) {
    Everything all;
    all.small = static_cast<std::int8_t>(random());
    all.large = random();
    all.single = static_cast<float>(random.exponential(1));
    all.number = random.exponential(1e300);
    all.flag = random.below(2) == 1;
    all.reason = static_cast<Reason>(random.below(static_cast<std::uint64_t>(kLastReason) + 1));
    all.worker = WorkerId{static_cast<std::uint32_t>(random())};
    all.version = Version{random()};
    all.at = Time(Duration(random()));
    all.wait = Duration(random());
    all.text = draw_text(random);
    all.floats = drawn<float>(random, [](RandomStream& r) { return static_cast<float>(r.uniform()); });
    all.bits = drawn<bool>(random, [](RandomStream& r) { return r.below(2) == 1; });
    all.inners = drawn(random, draw_inner);
    for (const Inner& inner : drawn(random, draw_inner)) all.steps.emplace_back(static_cast<unsigned>(inner.number));
    if (random.below(2) == 1) all.maybe = draw_inner(random);
    for (const Inner& inner : drawn(random, draw_inner)) all.names[static_cast<unsigned>(inner.number)] = inner.text;
    for (const Inner& inner : drawn(random, draw_inner)) all.words.insert(inner.text);
    for (auto& value : all.three) value = static_cast<std::uint16_t>(random());
    for (auto& value : all.two) value = draw_inner(random);
    all.pair = {static_cast<int>(random()), draw_text(random)};
    all.tuple = {static_cast<int>(random()), Foreign{random.uniform()}};
    switch (random.below(3)) {
    case 0: all.variant = static_cast<int>(random()); break;
    case 1: all.variant = draw_text(random); break;
    case 2: all.variant = draw_inner(random); break;
    }
    all.nested.resize(random.below(3));
    for (auto& positions : all.nested) {
        if (random.below(2) == 1) positions.emplace(random.below(3), DataPosition{1, random()});
    }
    return all;
}

RC_GTEST_PROP(Archive, GivesBackWhatItWasGiven, (std::uint64_t seed)) {
    RandomStream random(seed, Purpose::test);
    Everything all = draw_everything(random);
    Everything back = draw_everything(random); // what was there before does not matter
    const Stored stored = Stored::of(all);
    read(stored, back);
    RC_ASSERT(back == all);
    RC_ASSERT(Stored::of(back).state == stored.state);
}

TEST(Archive, KeepsNumbersBitForBit) {
    std::vector<double> numbers{-0.0, std::numeric_limits<double>::denorm_min(), INFINITY,
                                std::numeric_limits<double>::quiet_NaN()};
    std::vector<double> back;
    read(Stored::of(numbers), back);
    EXPECT_EQ(std::memcmp(back.data(), numbers.data(), numbers.size() * sizeof(double)), 0);
}

TEST(Archive, FindsTheSectionThatIsNotThere) {
    ArchiveWriter writer;
    int number = 3;
    writer.section("server");
    writer(number);
    const Stored stored(writer);
    BufferPool pool(0);
    EXPECT_EQ(refusal([&] {
                  ArchiveReader reader(stored.state, stored.blobs, pool);
                  reader.section("workers");
              }),
              "at byte 4: 'workers' should begin here");
    EXPECT_THAT(refusal([&] {
                    ArchiveReader reader(stored.state, stored.blobs, pool);
                    reader.section("server");
                    reader.finish();
                }),
                HasSubstr("'pools' should begin here"));
}

TEST(Archive, RefusesWhatWasMadeForAnother) {
    struct Made {
        std::size_t parameters;
        std::string kind;
        std::vector<float> state;
        void persist(Archive& archive) {
            archive.expect(kind, "the optimizer");
            archive.expect(parameters, "its parameters");
            archive.fixed(std::span(state), "its state");
        }
    };
    Made of{3, "adam", {1, 2, 3}};
    const Stored stored = Stored::of(of);
    Made same{3, "adam", {0, 0, 0}};
    read(stored, same);
    EXPECT_EQ(same.state, of.state);
    Made other{4, "adam", {0, 0, 0, 0}};
    EXPECT_THAT(refusal([&] { read(stored, other); }), HasSubstr("its parameters: 3, but 4 here"));
    Made kind{3, "sgd", {0, 0, 0}};
    EXPECT_THAT(refusal([&] { read(stored, kind); }), HasSubstr("the optimizer: 'adam', but 'sgd' here"));
    Made shorter{3, "adam", {0, 0}};
    EXPECT_THAT(refusal([&] { read(stored, shorter); }), HasSubstr("its state: 3, but 2 here"));
}

TEST(Archive, ChecksSizesBeforeItTakesMemory) {
    std::vector<std::uint64_t> counts{std::size_t{1} << 40, SIZE_MAX};
    for (std::uint64_t count : counts) {
        const Stored stored = Stored::of(count);
        std::vector<double> numbers;
        std::vector<std::string> texts;
        std::string text;
        std::map<int, int> map;
        std::vector<bool> bits;
        const long before = allocated_bytes();
        EXPECT_THAT(refusal([&] { read(stored, numbers); }), HasSubstr("elements are announced"));
        EXPECT_THAT(refusal([&] { read(stored, texts); }), HasSubstr("elements are announced"));
        EXPECT_THAT(refusal([&] { read(stored, text); }), HasSubstr("elements are announced"));
        EXPECT_THAT(refusal([&] { read(stored, map); }), HasSubstr("elements are announced"));
        EXPECT_THAT(refusal([&] { read(stored, bits); }), HasSubstr("elements are announced"));
        EXPECT_LT(allocated_bytes() - before, 10'000);
    }
}

TEST(Archive, RefusesElementsOfNoBytes) {
    struct Nothing {
        void persist(Archive&) {}
    };
    std::vector<Nothing> many(3);
    EXPECT_THAT(refusal([&] { read(Stored::of(many), many); }), HasSubstr("elements of no bytes"));
}

TEST(Archive, RefusesValuesThatNoneHas) {
    std::uint8_t two = 2;
    bool flag = false;
    std::optional<std::uint8_t> maybe;
    EXPECT_THAT(refusal([&] { read(Stored::of(two), flag); }), HasSubstr("at byte 1: a truth value"));
    EXPECT_THAT(refusal([&] { read(Stored::of(two), maybe); }), HasSubstr("truth value"));
    std::variant<int, float> variant;
    EXPECT_THAT(refusal([&] { read(Stored::of(two), variant); }), HasSubstr("a variant of no kind"));
    struct WithFate {
        Fate fate{};
        void persist(Archive& archive) { archive.enumerator(fate, Fate::lost); }
    } with;
    std::uint8_t beyond = 4;
    EXPECT_THAT(refusal([&] { read(Stored::of(beyond), with); }), HasSubstr("enumerator out of range"));
    std::vector<std::pair<int, int>> twice{{1, 2}, {1, 3}};
    std::map<int, int> map;
    EXPECT_THAT(refusal([&] { read(Stored::of(twice), map); }), HasSubstr("do not ascend"));
}

/// Else what is read at the bound could be read, and not be written any more.
TEST(Archive, LetsCountsGoOnFromWhatIsRead) {
    struct Counting {
        std::uint64_t count = Archive::kCountMax;
        void persist(Archive& archive) {
            archive(count);
            archive.require_count(count, "beyond all counting");
        }
    } counting;
    read(Stored::of(counting), counting);
    ++counting.count;
    const Stored beyond = Stored::of(counting);
    EXPECT_THAT(refusal([&] { read(beyond, counting); }), HasSubstr("beyond all counting"));
}

TEST(ArchiveDeathTest, WritesOnlyWhatHolds) {
    ArchiveWriter writer;
    EXPECT_DEATH(writer.require(false, "never"), "what is written holds");
}

Buffer filled(BufferPool& pool, std::size_t bytes, unsigned value) {
    Buffer buffer = pool.lease(bytes);
    std::fill_n(buffer.data(), bytes, static_cast<std::byte>(value));
    return buffer;
}

bool all_are(const Buffer& buffer, unsigned value) {
    return std::all_of(buffer.data(), buffer.data() + buffer.bytes(),
                       [&](std::byte byte) { return byte == static_cast<std::byte>(value); });
}

TEST(Archive, StoresASharedBufferOnce) {
    BufferPool pool(1000);
    std::vector<Buffer> buffers{filled(pool, 100, 1), Buffer(), filled(pool, 50, 2)};
    buffers.push_back(buffers[0]);
    const Stored stored = Stored::of(buffers);
    EXPECT_EQ(stored.blobs.size(), 150u);
    std::vector<Buffer> back;
    BufferPool other(1000);
    read_stored(stored, other, back);
    ASSERT_EQ(back.size(), 4u);
    EXPECT_TRUE(all_are(back[0], 1));
    EXPECT_FALSE(back[1]);
    EXPECT_TRUE(all_are(back[2], 2));
    EXPECT_EQ(back[2].bytes(), 50u);
    EXPECT_EQ(back[3].identity(), back[0].identity());
    EXPECT_TRUE(back[2].unique());
    back[3].reset();
    EXPECT_TRUE(back[0].unique()) << "the reader keeps none";
}

TEST(Archive, CapturesWithoutACopy) {
    BufferPool pool(std::size_t{1} << 30);
    Buffer buffer = pool.lease(std::size_t{1} << 26);
    const long before = allocated_bytes();
    ArchiveWriter writer;
    writer(buffer);
    const auto captured = writer.finish();
    EXPECT_LT(allocated_bytes() - before, 10'000);
    ASSERT_EQ(captured.blobs().size(), 1u);
    EXPECT_EQ(captured.blobs()[0].data(), std::as_const(buffer).data());
    EXPECT_FALSE(buffer.unique());
}

TEST(Archive, KeepsTheSizeAloneOfNominalBuffers) {
    BufferPool nominal(1000, BufferPool::Memory::nominal);
    std::vector<Buffer> buffers{nominal.lease(300), nominal.lease(0)};
    buffers.push_back(buffers[0]);
    ArchiveWriter writer;
    writer.pools({&nominal});
    writer(buffers);
    const Stored stored(writer);
    EXPECT_TRUE(stored.blobs.empty());
    BufferPool unnamed(0), again(1000, BufferPool::Memory::nominal), real(1000);
    std::vector<Buffer> back;
    {
        ArchiveReader reader(stored.state, stored.blobs, unnamed);
        reader.pools({&again});
        reader(back);
        EXPECT_TRUE(reader.finish());
    }
    EXPECT_EQ(back[0].bytes(), 300u);
    EXPECT_EQ(std::as_const(back[0]).data(), nullptr);
    EXPECT_EQ(back[2].identity(), back[0].identity());
    EXPECT_EQ(again.bytes_leased(), 300u);
    EXPECT_THAT(refusal([&] {
                    ArchiveReader reader(stored.state, stored.blobs, unnamed);
                    reader.pools({&real});
                    reader(back);
                }),
                HasSubstr("a pool of the other kind"));
}

TEST(Archive, RefusesMoreThanAPoolLends) {
    BufferPool large(1000);
    std::vector<Buffer> buffers{filled(large, 300, 1), filled(large, 300, 2)};
    const Stored stored = Stored::of(buffers);
    BufferPool small(599);
    std::vector<Buffer> back;
    EXPECT_THAT(refusal([&] { read_stored(stored, small, back); }), HasSubstr("more buffers than their pool lends"));
}

TEST(Archive, SaysWhereAPoolIsNotWhatItWas) {
    BufferPool pool(1000);
    Buffer kept = filled(pool, 100, 1);
    const Buffer elsewhere = filled(pool, 100, 2); // not in the archive
    ArchiveWriter writer;
    writer.pools({&pool});
    writer(kept);
    const Stored stored(writer);
    BufferPool unnamed(0), again(1000);
    ArchiveReader reader(stored.state, stored.blobs, unnamed);
    reader.pools({&again});
    Buffer back;
    reader(back);
    EXPECT_FALSE(reader.finish());
}

/// What a simulation does with a pool: leases of several sizes where there is room, in an order that is drawn.
struct Juggler {
    explicit Juggler(BufferPool::Memory memory) : pool(2000, memory), small(300, memory) {}

    /// What the pools answered.
    std::string step(RandomStream& random) {
        BufferPool& from = random.below(4) == 0 ? small : pool;
        const std::size_t bytes = random.below(3) == 0 ? random.below(700) : 100 * random.below(4);
        std::string answer = from.has_room(bytes) ? "room " : "no room ";
        switch (random.below(3)) {
        case 0:
            if (Buffer buffer = from.try_lease(bytes)) {
                if (buffer.data() != nullptr)
                    std::fill_n(buffer.data(), buffer.bytes(), static_cast<std::byte>(random()));
                answer += std::to_string(buffer.capacity());
                held.push_back(std::move(buffer));
            }
            break;
        case 1:
            if (!held.empty()) held.erase(held.begin() + static_cast<std::ptrdiff_t>(random.below(held.size())));
            break;
        case 2:
            if (!held.empty()) {
                const Buffer shared = held[random.below(held.size())];
                held.push_back(shared);
            }
            break;
        }
        return answer + ' ' + std::to_string(pool.bytes_allocated()) + ' ' + std::to_string(small.bytes_allocated());
    }

    void persist(Archive& archive) {
        archive.pools({&pool, &small});
        archive(held);
    }

    BufferPool pool;
    BufferPool small;
    std::vector<Buffer> held;
};

RC_GTEST_PROP(Archive, ResumedPoolsLendWhatTheyWouldHaveLent, (std::uint64_t seed)) {
    const auto memory = *rc::gen::element(BufferPool::Memory::real, BufferPool::Memory::nominal);
    RandomStream random(seed, Purpose::test);
    Juggler first(memory);
    for (std::uint64_t i = random.below(60); i > 0; --i) first.step(random);
    const Stored stored = Stored::of(first);

    Juggler second(memory); // has leased before
    RandomStream other(seed + 1, Purpose::test);
    for (std::uint64_t i = other.below(30); i > 0; --i) second.step(other);
    BufferPool unnamed(0);
    {
        ArchiveReader reader(stored.state, stored.blobs, unnamed);
        reader(second);
        RC_ASSERT(reader.finish());
    }
    RC_ASSERT(second.held.size() == first.held.size());
    for (int i = 0; i < 60; ++i) {
        RandomStream same = random;
        RC_ASSERT(first.step(random) == second.step(same));
        RC_ASSERT(first.held.size() == second.held.size());
    }
    if (memory == BufferPool::Memory::nominal) return;
    for (std::size_t i = 0; i < first.held.size(); ++i) {
        const Buffer &a = first.held[i], &b = second.held[i];
        RC_ASSERT(std::equal(a.data(), a.data() + a.bytes(), b.data(), b.data() + b.bytes()));
    }
}

/// State of every kind, with buffers.
struct Whole {
    Everything everything;
    Juggler juggler{BufferPool::Memory::real};
    void persist(Archive& archive) { archive(juggler, everything); }
};

/// Bytes that were changed are refused, or read as something else; they never take memory beyond what is there.
class DamagedArchive : public testing::Test {
  public:
    DamagedArchive() {
        Whole whole;
        for (int i = 0; i < 40; ++i) whole.juggler.step(random_);
        whole.everything = draw_everything(random_);
        stored_ = std::make_unique<Stored>(Stored::of(whole));
    }

    /// False where it is refused.
    bool reads(std::span<const std::byte> state, std::span<const std::byte> blobs) const {
        Whole whole;
        BufferPool unnamed(2000);
        const long before = allocated_bytes();
        bool whole_was_read = true;
        try {
            ArchiveReader reader(state, blobs, unnamed);
            reader(whole);
            reader.finish();
        } catch (const InputError& error) {
            whole_was_read = false;
            EXPECT_THAT(error.what(), testing::StartsWith("at byte "));
        }
        // Three pools to their bounds, what is small in memory a hundred times its bytes.
        EXPECT_LT(allocated_bytes() - before, 2 * (2000 + 300 + 2000) + 100 * static_cast<long>(state.size()));
        return whole_was_read;
    }

  protected:
    RandomStream random_{5, Purpose::test};
    std::unique_ptr<Stored> stored_;
};

TEST_F(DamagedArchive, AtEveryLength) {
    ASSERT_TRUE(reads(stored_->state, stored_->blobs));
    for (std::size_t length = 0; length < stored_->state.size(); ++length) {
        ASSERT_FALSE(reads(std::span(stored_->state).first(length), stored_->blobs)) << length;
    }
    for (std::size_t length = 0; length < stored_->blobs.size(); ++length) {
        ASSERT_FALSE(reads(stored_->state, std::span(stored_->blobs).first(length))) << length;
    }
    auto longer = stored_->state;
    longer.emplace_back();
    EXPECT_FALSE(reads(longer, stored_->blobs));
    longer = stored_->blobs;
    longer.emplace_back();
    EXPECT_FALSE(reads(stored_->state, longer));
}

TEST_F(DamagedArchive, WithEveryBitFlipped) {
    for (std::size_t bit = 0; bit < 8 * stored_->state.size(); ++bit) {
        auto changed = stored_->state;
        changed[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
        reads(changed, stored_->blobs);
        ASSERT_FALSE(HasFailure()) << bit;
    }
}

TEST_F(DamagedArchive, WithBytesAtRandom) {
    for (int round = 0; round < 5000; ++round) {
        auto changed = stored_->state;
        for (std::uint64_t i = 1 + random_.below(4); i > 0; --i) {
            const std::size_t at = random_.below(changed.size());
            const std::size_t run = std::min<std::size_t>(changed.size() - at, 1 + random_.below(9));
            std::fill_n(changed.begin() + static_cast<std::ptrdiff_t>(at), run, static_cast<std::byte>(random_()));
        }
        reads(changed, stored_->blobs);
        ASSERT_FALSE(HasFailure()) << round;
    }
}

} // namespace
} // namespace lategrad
