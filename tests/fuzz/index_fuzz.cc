// A model.safetensors.index.json of any bytes beside two good shards: it is refused in one sentence, or every tensor
// that it names is there.
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "tests/fuzz/read_slices.h"

using namespace atl::models;  // NOLINT(google-build-using-namespace): a program of one file

namespace {

namespace fs = std::filesystem;

// A folder of this process with the shards one.safetensors (tensor a) and two.safetensors (tensor b).
class Shards {
 public:
  Shards() {
    std::string name = (fs::temp_directory_path() / "atoll_index_XXXXXX").string();
    ATOLL_CHECK(mkdtemp(name.data()) != nullptr, "no temporary folder");
    path_ = name;
    const std::byte data[2] = {};
    for (const auto& [file, tensor] : {std::pair{"one.safetensors", "a"}, {"two.safetensors", "b"}}) {
      const absl::Status written =
          WriteSafetensors((path_ / file).string(), {{tensor, {atl::DType::kU8, {2}, data, 2}}});
      ATOLL_CHECK(written.ok(), "{}", atl::ToString(written.message()));
    }
  }
  ~Shards() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Shards shards;
  const fs::path index = shards.path() / "model.safetensors.index.json";
  fs::remove(index);  // cutting a file to nothing waits for the disk on some systems
  std::ofstream(index, std::ios::binary).write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  const auto checkpoint = Checkpoint::Open(shards.path().string());
  if (!checkpoint.ok()) {
    CheckSentence(checkpoint.status());
    return 0;
  }
  for (const auto& [name, tensor] : checkpoint->tensors()) {
    ATOLL_CHECK(name == "a" || name == "b", "{} is in no shard", name);
    ATOLL_CHECK(tensor.bytes == 2, "{} has {} bytes", name, tensor.bytes);
  }
  return 0;
}
