#include "lategrad/transport/zmq_keys.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.hpp>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

using Path = std::filesystem::path;

constexpr std::size_t kKeyLength = 40;
constexpr std::size_t kKeyBytes = 32;
/// Some twenty thousand keys.
constexpr std::size_t kFileBytesMax = std::size_t{1} << 20;

class File {
  public:
    explicit File(int number) : number_(number) {}
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File() {
        if (number_ >= 0) ::close(number_);
    }
    int number() const { return number_; }

  private:
    int number_;
};

bool is_key(const std::string& word) {
    std::array<std::uint8_t, kKeyBytes> bytes;
    return std::strlen(word.c_str()) == kKeyLength && word.size() == kKeyLength &&
           zmq_z85_decode(bytes.data(), word.c_str()) != nullptr;
}

EnvironmentError write_error(const Path& path) {
    return EnvironmentError(fmt::format("cannot write {}: {}", path.string(), std::strerror(errno)));
}

/// `mode` holds from the first moment on, and the file appears whole or not at all, never in place of another.
void create_file(const Path& path, std::string_view text, ::mode_t mode) {
    Path temporary = path;
    temporary += fmt::format(".{}.tmp", ::getpid());
    ::unlink(temporary.c_str());
    const File file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
    if (file.number() < 0) throw write_error(path);
    const bool written = ::write(file.number(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                         ::fsync(file.number()) == 0 && ::link(temporary.c_str(), path.c_str()) == 0;
    const int error = errno;
    ::unlink(temporary.c_str());
    if (written) return;
    errno = error;
    if (error == EEXIST) throw InputError(fmt::format("{} exists already and is not overwritten", path.string()));
    throw write_error(path);
}

KeyPair create_pair() {
    std::array<char, kKeyLength + 1> public_key;
    std::array<char, kKeyLength + 1> secret_key;
    if (zmq_curve_keypair(public_key.data(), secret_key.data()) != 0)
        throw EnvironmentError(fmt::format("cannot create keys: {}", zmq_strerror(zmq_errno())));
    return {public_key.data(), secret_key.data()};
}

enum class Secrecy { open, secret };

std::string read_text(const Path& path, Secrecy secrecy) {
    const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.number() < 0) throw InputError(fmt::format("cannot read {}: {}", path.string(), std::strerror(errno)));
    struct ::stat status {};
    if (::fstat(file.number(), &status) != 0 || !S_ISREG(status.st_mode))
        throw InputError(fmt::format("{}: not a file", path.string()));
    if (secrecy == Secrecy::secret && (status.st_mode & 077) != 0)
        throw InputError(
            fmt::format("{0}: others than its owner may use this secret key; run: chmod 600 {0}", path.string()));
    std::string text;
    std::array<char, 4096> part;
    for (;;) {
        const ssize_t got = ::read(file.number(), part.data(), part.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) throw InputError(fmt::format("cannot read {}: {}", path.string(), std::strerror(errno)));
        if (got == 0) return text;
        text.append(part.data(), static_cast<std::size_t>(got));
        if (text.size() > kFileBytesMax)
            throw InputError(fmt::format("{}: longer than {} bytes: not a file of keys", path.string(), kFileBytesMax));
    }
}

/// `name = "key"` lines; exactly these names, in any order.
std::map<std::string, std::string> read_keys(const Path& path, const std::vector<std::string>& names) {
    std::map<std::string, std::string> keys;
    std::istringstream lines(read_text(path, Secrecy::secret));
    std::size_t number = 0;
    for (std::string line; std::getline(lines, line);) {
        ++number;
        std::istringstream words(line);
        std::string name, equals, quoted, more;
        if (!(words >> name) || name.front() == '#') continue;
        const auto wrong = [&](const std::string& what) {
            return InputError(fmt::format("{}:{}: {}", path.string(), number, what));
        };
        if (!(words >> equals >> quoted) || equals != "=" || words >> more)
            throw wrong("not of the form: name = \"key\"");
        if (std::find(names.begin(), names.end(), name) == names.end())
            throw wrong(fmt::format("\"{}\" does not belong here; expected are {}", name, fmt::join(names, ", ")));
        if (quoted.size() < 2 || quoted.front() != '"' || quoted.back() != '"') throw wrong("the key is not in quotes");
        std::string key = quoted.substr(1, quoted.size() - 2);
        if (key.size() != kKeyLength)
            throw wrong(fmt::format("a key has {} characters, this one {}", kKeyLength, key.size()));
        if (!is_key(key)) throw wrong("a character that no key has");
        if (!keys.emplace(name, std::move(key)).second) throw wrong(fmt::format("\"{}\" a second time", name));
    }
    for (const std::string& name : names) {
        if (!keys.contains(name)) throw InputError(fmt::format("{}: no line: {} = \"key\"", path.string(), name));
    }
    return keys;
}

/// One that does not fit the other was mixed up by hand, and would only show as a handshake that fails.
KeyPair checked_pair(const Path& path, std::map<std::string, std::string>& keys) {
    std::array<char, kKeyLength + 1> derived;
    if (zmq_curve_public(derived.data(), keys["secret"].c_str()) != 0 || keys["public"] != derived.data())
        throw InputError(fmt::format("{}: the public key does not belong to the secret one", path.string()));
    return {std::move(keys["public"]), std::move(keys["secret"])};
}

} // namespace

void create_keys(const Path& dir) {
    std::error_code error;
    std::filesystem::create_directories(dir, error);
    if (error) throw EnvironmentError(fmt::format("cannot make the folder {}: {}", dir.string(), error.message()));
    const KeyPair server = create_pair();
    const KeyPair worker = create_pair();
    const struct {
        const char* name;
        std::string text;
        ::mode_t mode;
    } files[] = {
        {"server.key",
         fmt::format(
             "# The server's keys. Whoever reads this file can pass for it.\npublic = \"{}\"\nsecret = \"{}\"\n",
             server.public_key, server.secret_key),
         0600},
        {"worker.key",
         fmt::format("# A worker's keys, and whom it trusts. Copy this file to where workers run.\n"
                     "public = \"{}\"\nsecret = \"{}\"\nserver = \"{}\"\n",
                     worker.public_key, worker.secret_key, server.public_key),
         0600},
        {"admitted",
         fmt::format(
             "# Public keys of the workers that the server lets in: one a line, a name behind it where wanted.\n"
             "{} worker.key\n",
             worker.public_key),
         0644},
    };
    // None is begun where one would be refused.
    for (const auto& file : files) {
        if (std::filesystem::exists(dir / file.name, error))
            throw InputError(fmt::format("{} exists already and is not overwritten", (dir / file.name).string()));
    }
    std::size_t created = 0;
    try {
        for (const auto& file : files) {
            create_file(dir / file.name, file.text, file.mode);
            ++created;
        }
    } catch (...) {
        for (std::size_t i = 0; i < created; ++i) std::filesystem::remove(dir / files[i].name, error);
        throw;
    }
}

ServerKeys read_server_keys(const Path& dir) {
    auto keys = read_keys(dir / "server.key", {"public", "secret"});
    ServerKeys out{.own = checked_pair(dir / "server.key", keys), .admitted = dir / "admitted"};
    read_admitted(out.admitted);
    return out;
}

WorkerKeys read_worker_key(const Path& file) {
    auto keys = read_keys(file, {"public", "secret", "server"});
    return {.own = checked_pair(file, keys), .server = std::move(keys["server"])};
}

std::set<std::string> read_admitted(const Path& path) {
    std::set<std::string> keys;
    std::istringstream lines(read_text(path, Secrecy::open));
    std::size_t number = 0;
    for (std::string line; std::getline(lines, line);) {
        ++number;
        std::istringstream words(line);
        std::string key;
        if (!(words >> key) || key.front() == '#') continue; // no key begins so
        if (!is_key(key)) {
            throw InputError(fmt::format("{}:{}: not a public key, which has {} characters of Z85", path.string(),
                                         number, kKeyLength));
        }
        keys.insert(std::move(key));
    }
    return keys;
}

} // namespace lategrad
