// Which file a tokenizer is read from.
#include <filesystem>

#include "coordinator/tokenizer/formats/file.h"
#include "coordinator/tokenizer/formats/parse.h"
#include "coordinator/tokenizer/tokenizer.h"

namespace atl::coordinator {
namespace {

namespace fs = std::filesystem;

absl::StatusOr<fs::path> FileOf(const std::string& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return fs::path(path);
  for (const char* name : {"tokenizer.json", "tekken.json", "tiktoken.model", "tokenizer.model"}) {
    if (fs::exists(fs::path(path) / name, ignored)) return fs::path(path) / name;
  }
  return NotFound("{} has no tokenizer.json, tekken.json, tiktoken.model or tokenizer.model", path);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& path) {
  ATOLL_ASSIGN_OR_RETURN(const fs::path file, FileOf(path));
  ATOLL_ASSIGN_OR_RETURN(const std::string text, ReadMaybeGzipped(file.string()));
  std::string config;
  std::error_code ignored;
  if (const fs::path beside = file.parent_path() / "tokenizer_config.json"; fs::exists(beside, ignored)) {
    ATOLL_ASSIGN_OR_RETURN(config, ReadMaybeGzipped(beside.string()));
  }
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = ParseTokenizer(text, config);
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), file.string());
  return tokenizer;
}

}  // namespace atl::coordinator
