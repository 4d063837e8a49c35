#include "coordinator/tokenizer/formats/file.h"

#include <zlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace atl::coordinator {
namespace {
constexpr size_t kMaxBytes = size_t{1} << 30;
}

absl::StatusOr<std::string> Inflate(const std::string& gzipped) {
  z_stream stream{};
  if (inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK) return ResourceExhausted("zlib has no memory");
  std::string text;
  int result = Z_OK;
  for (size_t at = 0; result == Z_OK && text.size() <= kMaxBytes;) {
    if (stream.avail_in == 0) {
      const size_t given = std::min<size_t>(gzipped.size() - at, 1 << 30);
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(gzipped.data() + at));
      stream.avail_in = static_cast<uInt>(given);
      at += given;
    }
    const size_t before = text.size();
    text.resize(before + std::max<size_t>(1 << 16, before));
    stream.next_out = reinterpret_cast<Bytef*>(text.data() + before);
    stream.avail_out = static_cast<uInt>(text.size() - before);
    result = inflate(&stream, Z_NO_FLUSH);
    text.resize(text.size() - stream.avail_out);
    if (result == Z_BUF_ERROR) break;  // it ends before its end
  }
  inflateEnd(&stream);
  if (text.size() > kMaxBytes) return InvalidArgument("its gzip holds over {} bytes", kMaxBytes);
  if (result != Z_STREAM_END) {
    return InvalidArgument("its gzip is broken or cut off after {} bytes of text", text.size());
  }
  return text;
}

absl::StatusOr<std::string> ReadMaybeGzipped(const std::string& path) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);  // also says no to directories
  std::ifstream file(path, std::ios::binary);
  if (error || !file) return NotFound("{} cannot be opened", path);
  if (bytes > kMaxBytes) return InvalidArgument("{} has {} bytes, over {}", path, bytes, kMaxBytes);
  std::string text(bytes, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  if (!text.starts_with("\x1f\x8b")) return text;
  absl::StatusOr<std::string> inflated = Inflate(text);
  if (!inflated.ok()) return Annotate(inflated.status(), path);
  return inflated;
}

}  // namespace atl::coordinator
