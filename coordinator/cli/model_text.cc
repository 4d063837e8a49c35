#include "coordinator/cli/model_text.h"

#include <filesystem>

#include "coordinator/tokenizer/formats/gguf.h"
#include "models/weights/checkpoint.h"
#include "models/weights/formats/gguf.h"

namespace atl::coordinator {
namespace {

namespace fs = std::filesystem;

// The metadata of the GGUF model that `path` means; nullopt: it means none.
absl::StatusOr<std::optional<models::GgufTokenizer>> MetadataOf(const std::string& path) {
  std::string file = path;
  if (std::error_code ignored; fs::is_directory(path, ignored)) {
    if (models::HoldsSafetensors(path)) return std::nullopt;
    ATOLL_ASSIGN_OR_RETURN(const std::optional<std::string> found, models::GgufInDirectory(path));
    if (!found) return std::nullopt;
    file = *found;
  } else if (!models::IsGgufFile(path)) {
    return std::nullopt;
  }
  ATOLL_ASSIGN_OR_RETURN(const std::shared_ptr<const models::Gguf> gguf, models::Gguf::Open(file));
  return gguf->Tokenizer();
}

bool HasTokenizer(const models::GgufTokenizer& t) { return !t.model.empty() && t.model != "none"; }

absl::StatusOr<std::unique_ptr<Tokenizer>> FromMetadata(models::GgufTokenizer t) {
  return LoadGgufTokenizer({.model = std::move(t.model),
                            .pre = std::move(t.pre),
                            .tokens = std::move(t.tokens),
                            .scores = std::move(t.scores),
                            .token_types = std::move(t.token_types),
                            .merges = std::move(t.merges),
                            .bos_id = t.bos_id,
                            .eos_id = t.eos_id,
                            .unknown_id = t.unknown_id,
                            .add_bos = t.add_bos,
                            .add_eos = t.add_eos,
                            .add_space_prefix = t.add_space_prefix});
}

// As a template writes it; empty where there is no such token.
std::string TokenText(const models::GgufTokenizer& t, const std::optional<int64_t>& id) {
  return id && *id >= 0 && *id < static_cast<int64_t>(t.tokens.size()) ? t.tokens[*id] : "";
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadModelTokenizer(const std::string& path) {
  ATOLL_ASSIGN_OR_RETURN(std::optional<models::GgufTokenizer> metadata, MetadataOf(path));
  if (!metadata) return LoadTokenizer(path);
  if (HasTokenizer(*metadata)) {
    absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = FromMetadata(*std::move(metadata));
    if (!tokenizer.ok()) return Annotate(tokenizer.status(), path);
    return tokenizer;
  }
  if (models::IsGgufFile(path)) {
    return NotFound(
        "{} has no tokenizer in its metadata; put a tokenizer.json beside it and give the directory that holds both",
        path);
  }
  absl::StatusOr<std::unique_ptr<Tokenizer>> beside = LoadTokenizer(path);
  if (absl::IsNotFound(beside.status())) {
    return NotFound("{}, and its GGUF file has no tokenizer in its metadata", ToString(beside.status().message()));
  }
  return beside;
}

absl::StatusOr<std::unique_ptr<ChatTemplate>> LoadModelChatTemplate(const std::string& path,
                                                                    const ChatTemplateOptions& options) {
  ATOLL_ASSIGN_OR_RETURN(const std::optional<models::GgufTokenizer> metadata, MetadataOf(path));
  if (!metadata) return LoadChatTemplate(path, options);
  std::string source = metadata->chat_template;
  if (!options.file.empty()) {
    ATOLL_ASSIGN_OR_RETURN(source, ReadTemplateFile(options.file));
  }
  if (!source.empty()) {
    return MakeChatTemplate(source, TokenText(*metadata, metadata->bos_id), TokenText(*metadata, metadata->eos_id),
                            options);
  }
  if (models::IsGgufFile(path)) {
    return NotFound(
        "{} has no chat template in its metadata (tokenizer.chat_template); give one with --chat-template FILE", path);
  }
  return LoadChatTemplate(path, options);
}

std::string ModelName(const std::string& absolute_path) {
  const fs::path path = fs::path(absolute_path).lexically_normal();
  const std::string name = (path.has_filename() ? path : path.parent_path()).filename().string();
  return models::IsGgufFile(absolute_path) ? models::GgufModelName(name) : name;
}

}  // namespace atl::coordinator
