#include "models/weights/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "models/spec/json_text.h"
#include "models/weights/formats/gguf.h"
#include "models/weights/formats/safetensors.h"
#include "models/weights/mapped_file.h"
#include "parallel/base/shown.h"

namespace atl::models {
namespace {

namespace fs = std::filesystem;

// Whether a checkpoint's own text may choose this file: in the checkpoint's folder, with a name that can be shown.
bool IsFileName(const nlohmann::json& name) {
  if (!name.is_string()) return false;
  const auto& text = name.get_ref<const std::string&>();
  return std::ranges::none_of(text, [](unsigned char c) { return c == '/' || c < ' ' || c == 0x7F; });
}

// model.safetensors.index.json: which shard holds which tensor.
absl::StatusOr<std::map<std::string, std::string>> ReadIndex(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  const absl::StatusOr<nlohmann::json> parsed = ParseJsonObject(text.str(), path.string());
  if (!parsed.ok() || !parsed->contains("weight_map") || !(*parsed)["weight_map"].is_object()) {
    return InvalidArgument("{} is not an index: it needs an object weight_map", path.string());
  }
  const nlohmann::json& index = *parsed;
  std::map<std::string, std::string> shard_of;
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    if (!IsFileName(shard)) {
      return InvalidArgument("{}: the shard of {} is not a file name", path.string(), Shown(tensor));
    }
    shard_of[tensor] = shard.get<std::string>();
  }
  return shard_of;
}

constexpr const char *kOneFile = "model.safetensors", *kIndex = "model.safetensors.index.json";

}  // namespace

bool HoldsSafetensors(const std::string& directory) {
  const fs::path path(directory);
  return fs::exists(path / kOneFile) || fs::exists(path / kIndex);
}

absl::StatusOr<Checkpoint> Checkpoint::Open(const std::string& directory_or_file) {
  const fs::path path(directory_or_file);
  Checkpoint checkpoint;
  std::map<std::string, std::string> shard_of;
  std::set<fs::path> files;
  if (IsGgufFile(path)) {
    ATOLL_ASSIGN_OR_RETURN(checkpoint.gguf_, Gguf::Open(path));
    return checkpoint;
  }
  if (!fs::is_directory(path)) {
    files.insert(path);
  } else if (fs::exists(path / kOneFile)) {
    files.insert(path / kOneFile);
  } else if (fs::exists(path / kIndex)) {
    ATOLL_ASSIGN_OR_RETURN(shard_of, ReadIndex(path / kIndex));
    for (const auto& [tensor, shard] : shard_of) files.insert(path / shard);
  } else {
    ATOLL_ASSIGN_OR_RETURN(const std::optional<std::string> gguf, GgufInDirectory(path));
    if (gguf) return Open(*gguf);
    return NotFound(
        "{} holds no weights: neither model.safetensors, model.safetensors.index.json nor a GGUF file is there",
        path.string());
  }
  for (const fs::path& file_path : files) {
    ATOLL_ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> file, MappedFile::Open(file_path.string()));
    ATOLL_ASSIGN_OR_RETURN(auto tensors, ReadSafetensorsHeader(*file));
    for (auto& [name, tensor] : tensors) {
      if (!checkpoint.tensors_.emplace(name, std::move(tensor)).second) {
        return InvalidArgument("{}: tensor {} is in another shard too", file_path.string(), Shown(name));
      }
    }
    checkpoint.files_.push_back(std::move(file));
  }
  for (const auto& [tensor, shard] : shard_of) {
    if (checkpoint.Find(tensor) == nullptr) {
      return InvalidArgument("{}: the index says that {} holds {}, but it does not", path.string(), Shown(shard),
                             Shown(tensor));
    }
  }
  return checkpoint;
}

const TensorView* Checkpoint::Find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

const TensorView* Checkpoint::FindPublished(const std::string& tensor) const {
  for (const std::string& name : PublishedNames(tensor)) {
    if (const TensorView* found = Find(name)) return found;
  }
  return nullptr;
}

absl::Status Checkpoint::CheckShape(const std::string& name, const TensorView& tensor,
                                    const std::vector<int64_t>& shape) const {
  if (tensor.shape == shape) return absl::OkStatus();
  return InvalidArgument("{}: tensor {} is {}, config.json asks for {}", path(), Shown(name), Shown(tensor.shape),
                         Shown(shape));
}

int64_t Checkpoint::num_tensors() const { return gguf_ ? gguf_->num_tensors() : static_cast<int64_t>(tensors_.size()); }

std::string Checkpoint::path() const {
  if (gguf_) return gguf_->path();
  return files_.empty() ? "the checkpoint" : files_.front()->path();
}

}  // namespace atl::models
