#include "coordinator/tokenizer/formats/parse.h"

#include <nlohmann/json.hpp>

#include "coordinator/tokenizer/formats/hf.h"
#include "coordinator/tokenizer/formats/tiktoken.h"

namespace atl::coordinator {
namespace {

using nlohmann::json;

// The formats in JSON are told apart by their keys; a large file of Hugging Face's is not parsed twice for that.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseJson(const std::string& text, const json& config) {
  const bool ranks = text.find("\"bpe_ranks\"") != std::string::npos;
  const bool tekken = text.find("\"default_num_special_tokens\"") != std::string::npos;
  if (!ranks && !tekken) return ParseHfTokenizer(text, config);
  const json file = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (file.is_discarded()) return InvalidArgument("it is not valid JSON");
  if (file.is_object() && file.contains("model")) return ParseHfTokenizer(text, config);  // those words are its tokens
  return tekken ? ParseTekken(file) : ParseTiktokenJson(file);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTokenizer(const std::string& text, const std::string& config) {
  json parsed = json::object();
  if (!config.empty()) parsed = json::parse(config, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return InvalidArgument("the tokenizer_config.json beside it is not a JSON object");
  if (text.starts_with("GGUF")) return Unimplemented("a GGUF file's tokenizer comes with its model; give the model");
  if (text.starts_with('\n')) return Unimplemented("a SentencePiece model is not supported; give its tokenizer.json");
  const size_t first = text.find_first_not_of(" \t\r\n");
  const bool is_json = first != std::string::npos && (text[first] == '{' || text[first] == '[');
  try {  // a value that is missing or of an unexpected type anywhere in the files
    return is_json ? ParseJson(text, parsed) : ParseTiktokenLines(text, parsed);
  } catch (const json::exception& error) {
    return InvalidArgument("{}", error.what());
  }
}

}  // namespace atl::coordinator
