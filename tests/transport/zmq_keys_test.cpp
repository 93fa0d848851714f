/// Who is let in, and the files that say so.
#include "lategrad/transport/zmq_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include <sys/stat.h>

#include "tests/files/temp_dir.h"
#include "zmq_parties.h"

namespace lategrad::testing {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

std::string content(const fs::path& path) {
    std::ostringstream out;
    out << std::ifstream(path).rdbuf();
    return out.str();
}

unsigned mode(const fs::path& path) {
    struct ::stat status {};
    return ::stat(path.c_str(), &status) == 0 ? status.st_mode & 0777 : 0;
}

/// As written by hand: owner only.
fs::path write_secret(const TempDir& dir, std::string_view text) {
    const fs::path path = dir.write("some.key", text);
    ::chmod(path.c_str(), 0600);
    return path;
}

TEST(ZmqKeys, AreCreatedAndReadBack) {
    const TempDir dir;
    const fs::path folder = dir / "a" / "b"; // made if need be
    create_keys(folder);
    EXPECT_EQ(mode(folder / "server.key"), 0600u);
    EXPECT_EQ(mode(folder / "worker.key"), 0600u);
    const ServerKeys server = read_server_keys(folder);
    const WorkerKeys worker = read_worker_key(folder / "worker.key");
    EXPECT_EQ(worker.server, server.own.public_key);
    EXPECT_EQ(read_admitted(server.admitted), std::set<std::string>{worker.own.public_key});
    EXPECT_NE(worker.own.secret_key, server.own.secret_key);
    EXPECT_EQ(content(folder / "admitted").find(worker.own.secret_key), std::string::npos);
}

TEST(ZmqKeys, AreNeverOverwritten) {
    for (const char* name : {"server.key", "worker.key", "admitted"}) {
        const TempDir dir;
        const fs::path present = dir.write(name, "precious");
        EXPECT_THAT(message_of([&] { create_keys(dir.path()); }), HasSubstr(present.string() + " exists already"));
        EXPECT_EQ(content(present), "precious");
        EXPECT_EQ(std::distance(fs::directory_iterator(dir.path()), {}), 1) << "and no other file is left";
    }
}

TEST(ZmqKeys, AreRefusedWithFileAndLine) {
    const TempDir dir;
    const std::string key(40, '0');
    const auto complaint = [&](const std::string& text) {
        const fs::path path = write_secret(dir, text);
        const std::string what = message_of([&] { read_worker_key(path); });
        EXPECT_TRUE(what.starts_with(path.string())) << what;
        return what;
    };
    EXPECT_THAT(message_of([&] { read_worker_key(dir / "missing"); }), HasSubstr("cannot read"));
    EXPECT_THAT(message_of([&] { read_worker_key(dir.path()); }), HasSubstr("not a file"));
    EXPECT_THAT(complaint(""), HasSubstr("no line: public"));
    EXPECT_THAT(complaint("# comment\n\npublic: abc\n"), HasSubstr(":3: not of the form"));
    EXPECT_THAT(complaint("public = \"abc\"\n"), HasSubstr(":1: a key has 40 characters, this one 3"));
    EXPECT_THAT(complaint("public = " + key + "\n"), HasSubstr(":1: the key is not in quotes"));
    EXPECT_THAT(complaint("public = \"" + std::string(40, ',') + "\"\n"), HasSubstr(":1: a character that no key has"));
    EXPECT_THAT(complaint("pubic = \"" + key + "\"\n"), HasSubstr(":1: \"pubic\" does not belong here"));
    EXPECT_THAT(complaint("public = \"" + key + "\"\npublic = \"" + key + "\"\n"),
                HasSubstr(":2: \"public\" a second"));
    EXPECT_THAT(complaint("public = \"" + key + "\"\nsecret = \"" + key + "\"\nserver = \"" + key + "\"\n"),
                HasSubstr("does not belong to the secret"));
    EXPECT_THAT(complaint(std::string(2 << 20, 'x')), HasSubstr("longer than"));
}

TEST(ZmqKeys, AreRefusedWhereOthersMayReadThem) {
    const TempDir dir;
    create_keys(dir.path());
    for (const unsigned loose : {0640u, 0604u, 0620u}) {
        ::chmod((dir / "server.key").c_str(), loose);
        EXPECT_THAT(message_of([&] { read_server_keys(dir.path()); }), HasSubstr("chmod 600"));
    }
}

TEST(ZmqKeys, AreListedWithNamesAndComments) {
    const TempDir dir;
    const std::string a(40, '0');
    const std::string b(40, '1');
    EXPECT_EQ(read_admitted(dir.write("admitted", "# all\n\n" + a + " of Ann\n  " + b + "\n")),
              (std::set<std::string>{a, b}));
    EXPECT_THAT(message_of([&] { read_admitted(dir.write("admitted", a + "\nBob " + b)); }),
                HasSubstr("admitted:2: not a public key"));
    std::string cut = a; // libzmq reads as far as the zero
    cut[20] = '\0';
    EXPECT_THAT(message_of([&] { read_admitted(dir.write("admitted", cut)); }),
                HasSubstr("admitted:1: not a public key"));
}

/// A server with keys, and two workers' keys of which one is admitted.
class ZmqAdmission : public ::testing::Test {
  protected:
    ZmqAdmission() {
        create_keys(ours.path());
        create_keys(others.path());
        server_options.keys = read_server_keys(ours.path());
        server_options.keys->warn = [this](const std::string& what) { warned.push_back(what); };
        known.keys = read_worker_key(ours / "worker.key");
        stranger.keys = read_worker_key(others / "worker.key");
        other_server.keys = stranger.keys;
        stranger.keys->server = known.keys->server;
        server = listen(clock, server_options);
    }

    const TempDir ours, others;
    const SteadyClock clock;
    ZmqServerOptions server_options;
    ZmqClientOptions known, stranger, other_server;
    std::vector<std::string> warned; ///< for when there is no server any more
    std::unique_ptr<ZmqServerTransport> server;
};

TEST_F(ZmqAdmission, IsForAdmittedKeysAlone) {
    const auto admitted = connected(clock, *server, known);
    const ZmqConnection refused = connect(clock, *server, stranger);
    EXPECT_FALSE(refused.transport);
    EXPECT_EQ(refused.refusal, ZmqRefusal::not_admitted);
    EXPECT_THAT(refused.why, HasSubstr("the server did not admit this key"));
    serve_until(*server, clock, [&] { return server->faults()[ZmqFault::handshake] >= 1; });
    EXPECT_EQ(server->peers(), 1u);
    ASSERT_EQ(admitted->try_send(kServerPeer, Message{}), SendStatus::sent);
    EXPECT_TRUE(std::holds_alternative<Received>(next_of(*server, clock)));
}

TEST_F(ZmqAdmission, IsReadAgainWhenItChanges) {
    EXPECT_EQ(connect(clock, *server, stranger).refusal, ZmqRefusal::not_admitted);
    std::ofstream(ours / "admitted", std::ios::app) << stranger.keys->own.public_key << " a friend\n";
    EXPECT_EQ(connect(clock, *server, stranger).why, "");
    // One that cannot be read leaves those in who were, and nobody else.
    ours.write("admitted", "not a key\n");
    EXPECT_EQ(connect(clock, *server, stranger).why, "");
    EXPECT_EQ(connect(clock, *server, known).why, "");
    ours.write("admitted", stranger.keys->own.public_key + "\n");
    EXPECT_EQ(connect(clock, *server, known).refusal, ZmqRefusal::not_admitted);
    server.reset();
    EXPECT_THAT(warned, ::testing::ElementsAre(HasSubstr("admitted:1: not a public key"))) << "once";
}

TEST_F(ZmqAdmission, NeedsTheServersOwnKeyAndKeysAtBothEnds) {
    EXPECT_EQ(connect(clock, *server, other_server).refusal, ZmqRefusal::handshake);
    EXPECT_EQ(connect(clock, *server, {}).refusal, ZmqRefusal::handshake);
    const auto open_server = listen(clock);
    EXPECT_EQ(connect(clock, *open_server, known).refusal, ZmqRefusal::handshake);
    EXPECT_EQ(connect(clock, *open_server, {}).why, "");
}

} // namespace
} // namespace lategrad::testing
