#include "models/weights/formats/gguf.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "parallel/base/shown.h"

namespace atl::models {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxSplits = 4096;

struct SplitName {
  std::string stem;  // up to "-00001-of-00003.gguf"
  int64_t number = 0, count = 0;
};

std::optional<SplitName> ParseSplitName(const std::string& name) {
  constexpr std::string_view kForm = "-00001-of-00003.gguf";
  if (name.size() <= kForm.size()) return std::nullopt;
  const std::string_view tail = std::string_view(name).substr(name.size() - kForm.size());
  for (size_t i = 0; i < kForm.size(); ++i) {
    const bool digit = kForm[i] >= '0' && kForm[i] <= '9';
    if (digit ? tail[i] < '0' || tail[i] > '9' : tail[i] != kForm[i]) return std::nullopt;
  }
  return SplitName{name.substr(0, name.size() - kForm.size()), std::stoll(std::string(tail.substr(1, 5))),
                   std::stoll(std::string(tail.substr(10, 5)))};
}

absl::StatusOr<GgufFile> OpenOne(const std::string& path) {
  ATOLL_ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  return GgufFile::Parse(std::move(file));
}

std::optional<int64_t> IntegerAt(const nlohmann::json& values, const std::string& key) {
  const auto found = values.find(key);
  if (found == values.end() || !found->is_number_integer()) return std::nullopt;
  if (found->is_number_unsigned() && found->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  return found->get<int64_t>();
}

std::string TextAt(const nlohmann::json& values, const std::string& key) {
  const auto found = values.find(key);
  return found != values.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::optional<bool> FlagAt(const nlohmann::json& values, const std::string& key) {
  const auto found = values.find(key);
  if (found == values.end() || !found->is_boolean()) return std::nullopt;
  return found->get<bool>();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Gguf>> Gguf::Open(const std::string& path) {
  auto gguf = std::make_shared<Gguf>();
  gguf->path_ = path;
  const auto split = ParseSplitName(path);
  const int64_t count = split ? split->count : 1;
  if (count < 1 || count > kMaxSplits) return InvalidArgument("{} would be one of {} files", path, count);
  std::map<std::string, int64_t> owner;
  for (int64_t i = 1; i <= count; ++i) {
    const std::string part = split ? fmt::format("{}-{:05}-of-{:05}.gguf", split->stem, i, count) : path;
    ATOLL_ASSIGN_OR_RETURN(GgufFile file, OpenOne(part));
    const int64_t stated = IntegerAt(file.values, "split.count").value_or(count);
    const int64_t number = IntegerAt(file.values, "split.no").value_or(i - 1);
    if (stated != count || number != i - 1) {
      return InvalidArgument("{}: its metadata says that it is file {} of {}, its name file {} of {}", part, number + 1,
                             stated, i, count);
    }
    for (const auto& [name, tensor] : file.tensors) {
      if (!owner.emplace(name, i).second) {
        return InvalidArgument("{}: tensor {} is in file {} too", part, Shown(name), owner[name]);
      }
    }
    gguf->files_.push_back(std::move(file));
  }
  const auto all = IntegerAt(gguf->values(), "split.tensors.count");
  if (all && *all != static_cast<int64_t>(owner.size())) {
    return InvalidArgument("{}: its {} files hold {} tensors, its metadata says {}", path, count, owner.size(), *all);
  }
  gguf->architecture_ = TextAt(gguf->values(), "general.architecture");
  return gguf;
}

const GgufTensor* Gguf::Find(const std::string& name) const {
  for (const GgufFile& file : files_) {
    if (const auto found = file.tensors.find(name); found != file.tensors.end()) return &found->second;
  }
  return nullptr;
}

int64_t Gguf::num_tensors() const {
  int64_t count = 0;
  for (const GgufFile& file : files_) count += static_cast<int64_t>(file.tensors.size());
  return count;
}

std::optional<int64_t> Gguf::Integer(const std::string& name) const {
  return IntegerAt(values(), architecture_ + "." + name);
}

absl::StatusOr<GgufTokenizer> Gguf::Tokenizer() const {
  const GgufFile& file = files_.front();
  const std::string ggml = "tokenizer.ggml.";
  GgufTokenizer t;
  t.model = TextAt(values(), ggml + "model");
  t.pre = TextAt(values(), ggml + "pre");
  ATOLL_ASSIGN_OR_RETURN(t.tokens, file.Strings(ggml + "tokens"));
  ATOLL_ASSIGN_OR_RETURN(t.scores, file.Floats(ggml + "scores"));
  ATOLL_ASSIGN_OR_RETURN(t.token_types, file.Integers(ggml + "token_type"));
  ATOLL_ASSIGN_OR_RETURN(t.merges, file.Strings(ggml + "merges"));
  t.bos_id = IntegerAt(values(), ggml + "bos_token_id");
  t.eos_id = IntegerAt(values(), ggml + "eos_token_id");
  t.eot_id = IntegerAt(values(), ggml + "eot_token_id");
  t.eom_id = IntegerAt(values(), ggml + "eom_token_id");
  t.unknown_id = IntegerAt(values(), ggml + "unknown_token_id");
  t.padding_id = IntegerAt(values(), ggml + "padding_token_id");
  t.add_bos = FlagAt(values(), ggml + "add_bos_token");
  t.add_eos = FlagAt(values(), ggml + "add_eos_token");
  t.add_space_prefix = FlagAt(values(), ggml + "add_space_prefix");
  t.chat_template = TextAt(values(), "tokenizer.chat_template");
  return t;
}

bool IsGgufFile(const std::string& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return false;
  char magic[4] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof(magic));
  return std::string_view(magic, sizeof(magic)) == "GGUF";
}

std::string GgufModelName(const std::string& file_name) {
  if (const auto split = ParseSplitName(file_name)) return split->stem;
  return fs::path(file_name).extension() == ".gguf" ? fs::path(file_name).stem().string() : file_name;
}

absl::StatusOr<std::optional<std::string>> GgufInDirectory(const std::string& directory) {
  std::map<std::string, std::string> models;  // by what is before the number of a split
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    // A vision tower beside its text model.
    if (entry.path().extension() != ".gguf" || name.starts_with("mmproj")) continue;
    const auto split = ParseSplitName(name);
    std::string& first = models[split ? split->stem : name];
    if (first.empty() || entry.path().string() < first) first = entry.path().string();
  }
  if (models.empty()) return std::nullopt;
  if (models.size() > 1) {
    std::string names;
    for (const auto& [stem, first] : models) names += (names.empty() ? "" : ", ") + fs::path(first).filename().string();
    return InvalidArgument("{} holds {} GGUF models ({}); give the file", directory, models.size(), names);
  }
  return models.begin()->second;
}

}  // namespace atl::models
