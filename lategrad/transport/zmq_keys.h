/// Who may take part in an elastic run: CURVE keys of the server and its workers, and the files they live in. A key is
/// written as 40 characters of Z85 (ZeroMQ RFC 32).
#pragma once

#include <filesystem>
#include <functional>
#include <set>
#include <string>

namespace lategrad {

struct KeyPair {
    std::string public_key;
    std::string secret_key;
};

struct ServerKeys {
    KeyPair own;
    /// Lists the public keys of workers that are let in: one a line, a name behind it where wanted; `#` comments. It is
    /// read again when it changes; a change does not touch who is connected already.
    std::filesystem::path admitted;
    /// Told, on another thread, what is wrong with `admitted` after a change; until it can be read, those who were in
    /// it before are let in.
    std::function<void(const std::string&)> warn = {};
};

struct WorkerKeys {
    KeyPair own;
    std::string server; ///< public key; any other server is not spoken to
};

/// Writes `server.key`, `worker.key` (for all workers; holds the server's public key too) and `admitted` into `dir`,
/// which is made if need be. The secrets are readable by their owner alone. Throws InputError where one of the files
/// exists: nothing is overwritten; EnvironmentError where writing fails, and leaves none of them.
void create_keys(const std::filesystem::path& dir);

/// Reads `dir`/server.key, and checks `dir`/admitted. Throws InputError naming file, line and what is wrong; a secret
/// that others than its owner may read is refused.
ServerKeys read_server_keys(const std::filesystem::path& dir);

/// The same for a worker.key.
WorkerKeys read_worker_key(const std::filesystem::path& file);

/// The public keys in such a file. Throws InputError.
std::set<std::string> read_admitted(const std::filesystem::path& file);

} // namespace lategrad
