// A GGUF model: one file, or the files NAME-00001-of-00003.gguf ... of a split one, named by any of them.
//
//   ATOLL_ASSIGN_OR_RETURN(const auto gguf, Gguf::Open("model.gguf"));
//   gguf->values()["general.architecture"]; gguf->Find("blk.0.attn_q.weight");
//   ATOLL_ASSIGN_OR_RETURN(const GgufTokenizer tokenizer, gguf->Tokenizer());
//
// Parameters are found by their published names (InGguf in table.h): tensors are renamed, experts stacked, Llama's
// query and key rows paired. The specification is in models/weights/gguf_spec.h.
#pragma once

#include "models/weights/formats/gguf_file.h"

namespace atl::models {

// tokenizer.* as the file has it; nothing is checked but the types.
struct GgufTokenizer {
  std::string model, pre;            // "gpt2", "llama", ...; "none" or empty: no tokenizer
  std::vector<std::string> tokens;   // [ids]
  std::vector<float> scores;         // [ids], or empty
  std::vector<int32_t> token_types;  // [ids], or empty
  std::vector<std::string> merges;
  std::optional<int64_t> bos_id, eos_id, eot_id, eom_id, unknown_id, padding_id;
  std::optional<bool> add_bos, add_eos, add_space_prefix;
  std::string chat_template;  // Jinja, or empty
};

class Gguf {
 public:
  static absl::StatusOr<std::shared_ptr<const Gguf>> Open(const std::string& path);

  const nlohmann::json& values() const { return files_.front().values; }
  const GgufTensor* Find(const std::string& name) const;
  int64_t num_tensors() const;
  absl::StatusOr<GgufTokenizer> Tokenizer() const;

  // general.architecture: "llama", "deepseek2", ...
  const std::string& architecture() const { return architecture_; }
  // The key "ARCHITECTURE.name" as a whole number; nullopt where it is absent or something else.
  std::optional<int64_t> Integer(const std::string& name) const;
  const std::string& path() const { return path_; }

 private:
  std::vector<GgufFile> files_;  // at least one
  std::string architecture_, path_;
};

// Whether the file begins like one. A file that cannot be opened does not.
bool IsGgufFile(const std::string& path);
// The model's name in a file's: "x.gguf" and "x-00001-of-00003.gguf" are both x.
std::string GgufModelName(const std::string& file_name);
// The GGUF model of a directory without a safetensors checkpoint: the path of its (first) file; nullopt: none is there;
// an error if there are several.
absl::StatusOr<std::optional<std::string>> GgufInDirectory(const std::string& directory);

}  // namespace atl::models
