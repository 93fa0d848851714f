/// Whatever file of keys is read has keys in it that fit each other.
#include <sys/stat.h>
#include <zmq.h>

#include <array>
#include <cstring>

#include "lategrad/transport/zmq_keys.h"
#include "tests/fuzz/file.h"

namespace lategrad::fuzz {
namespace {

constexpr std::size_t kKeyLength = 40;
constexpr std::size_t kKeyBytes = 32;
// Of nobody; the first two are a pair.
constexpr const char* kPublic = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
constexpr const char* kSecret = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs";
constexpr const char* kOther = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";

void check_key(const std::string& key) {
    std::array<std::uint8_t, kKeyBytes> bytes;
    CHECK(key.size() == kKeyLength && std::strlen(key.c_str()) == kKeyLength);
    CHECK(zmq_z85_decode(bytes.data(), key.c_str()) != nullptr);
}

class WorkerKeyTarget final : public Target {
  public:
    bool run(unsigned, Bytes bytes) const override {
        const MemoryFile input(bytes);
        return passes(input.path(), [&] {
            const WorkerKeys keys = read_worker_key(input.path());
            for (const std::string& key : {keys.own.public_key, keys.own.secret_key, keys.server}) check_key(key);
            std::array<char, kKeyLength + 1> derived;
            CHECK(zmq_curve_public(derived.data(), keys.own.secret_key.c_str()) == 0);
            CHECK(keys.own.public_key == derived.data());
        });
    }

    std::vector<Bytes> payloads() const override {
        const auto line = [](const char* name, const char* key) { return std::string(name) + " = \"" + key + "\"\n"; };
        return {bytes_in("# a comment\n" + line("public", kPublic) + line("secret", kSecret) + line("server", kOther)),
                bytes_in("\n" + line("server", kOther) + line("  secret", kSecret) + line("public", kPublic))};
    }
};

class AdmittedTarget final : public Target {
  public:
    bool run(unsigned, Bytes bytes) const override {
        const MemoryFile input(bytes);
        return passes(input.path(), [&] {
            for (const std::string& key : read_admitted(input.path())) check_key(key);
        });
    }

    std::vector<Bytes> payloads() const override {
        const std::string all = std::string("# a comment\n") + kPublic + " a worker\n\n" + kOther + "\n" + kOther;
        return {bytes_in(all), {}};
    }
};

} // namespace

std::unique_ptr<Target> make_keys_target(const std::string& spec) {
    if (spec == "worker") return std::make_unique<WorkerKeyTarget>();
    return std::make_unique<AdmittedTarget>();
}

} // namespace lategrad::fuzz
