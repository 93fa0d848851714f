/// Whatever is gunzipped is what zlib's own reader of files makes of it, and no longer than the limit.
#include <zlib.h>

#include "lategrad/files/file.h"
#include "tests/fuzz/file.h"

namespace lategrad::fuzz {
namespace {

constexpr std::size_t kBytesMax = std::size_t{1} << 20;

Bytes by_zlib(const std::string& path) {
    const gzFile file = ::gzopen(path.c_str(), "rb");
    CHECK(file != nullptr);
    Bytes out(kBytesMax);
    const int got = ::gzread(file, out.data(), static_cast<unsigned>(out.size()));
    CHECK(got >= 0);
    out.resize(static_cast<std::size_t>(got));
    ::gzclose(file);
    return out;
}

class GzipTarget final : public Target {
  public:
    bool run(unsigned, Bytes bytes) const override {
        const MemoryFile input(bytes);
        Bytes read;
        if (!passes(input.path(), [&] { read = read_file(input.path(), kBytesMax); })) return false;
        CHECK(read.size() <= kBytesMax);
        CHECK(read == (is_gzipped(bytes) ? by_zlib(input.path()) : bytes));
        if (!read.empty()) CHECK(!passes(input.path(), [&] { read_file(input.path(), read.size() - 1); }));
        return true;
    }

    std::vector<Bytes> payloads() const override {
        const Bytes once = gzipped("lategrad"), nothing = gzipped({}), many = gzipped(std::string(5000, 'a'));
        return {once, nothing, many, joined({once, many}), joined({nothing, once, nothing}), bytes_in("plain")};
    }

  private:
    static Bytes gzipped(std::string_view text) {
        z_stream stream{};
        CHECK(::deflateInit2(&stream, 9, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
        Bytes in = bytes_in(text), out(text.size() + 100);
        stream.next_in = reinterpret_cast<Bytef*>(in.data());
        stream.avail_in = static_cast<uInt>(in.size());
        stream.next_out = reinterpret_cast<Bytef*>(out.data());
        stream.avail_out = static_cast<uInt>(out.size());
        CHECK(::deflate(&stream, Z_FINISH) == Z_STREAM_END);
        out.resize(stream.total_out);
        ::deflateEnd(&stream);
        return out;
    }
    static Bytes joined(const std::vector<Bytes>& members) {
        Bytes out;
        for (const Bytes& member : members) out.insert(out.end(), member.begin(), member.end());
        return out;
    }
};

} // namespace

std::unique_ptr<Target> make_gzip_target(const std::string&) {
    return std::make_unique<GzipTarget>();
}

} // namespace lategrad::fuzz
