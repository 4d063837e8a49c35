// tiktoken ranks: lines of "base64 rank" (tokenizer.model of Llama 3 and 4, tiktoken.model of Kimi K2, *.tiktoken),
// which say neither expression nor special tokens, or the JSON of tiktoken's npm package, which says both.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "coordinator/tokenizer/tokenizer.h"

namespace atl::coordinator {

// The lines' number tells the vocabulary: GPT-2, cl100k, o200k, Llama 3, Llama 4 or Kimi K2; others are refused.
// Special tokens are those of `config` (tokenizer_config.json's added_tokens_decoder) if it has some, else the
// published ones.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTiktokenLines(const std::string& text, const nlohmann::json& config);

// {"pat_str": ..., "special_tokens": {text: id}, "bpe_ranks": "! 0 base64 base64 ...\n..."}
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTiktokenJson(const nlohmann::json& file);

// Mistral's tekken.json: {"config": ..., "vocab": [{"rank", "token_bytes"}], "special_tokens": [{"rank",
// "token_str"}]}; or with the ranks as "bpe_ranks". Id = rank + the number of special tokens.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTekken(const nlohmann::json& file);

}  // namespace atl::coordinator
