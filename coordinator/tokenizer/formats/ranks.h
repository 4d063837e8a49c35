// Tokenizers that are a list of byte strings, best first (tiktoken, tekken): two neighbours merge when their bytes
// together are in the list, and a piece that is in it is one token.
//
//   RankedTokens ranked;  ranked.tokens = {{"a", 0}, ...};  ranked.special = {{"<|endoftext|>", 50256}};
//   ATOLL_ASSIGN_OR_RETURN(auto tokenizer, MakeRankedTokenizer(std::move(ranked)));
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/tokenizer/tokenizer.h"

namespace atl::coordinator {

struct RankedSpecial {
  std::string text;
  int64_t id;
  bool hidden = true;  // in decoded text
};

struct RankedTokens {
  std::string expression;                               // in Rust's dialect
  std::vector<std::pair<std::string, int64_t>> tokens;  // bytes and rank, any order; all single bytes are there
  int64_t first_id = 0;                                 // of rank 0
  std::vector<RankedSpecial> special;
  std::string bos;  // put before a text, if not empty
};

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeRankedTokenizer(RankedTokens ranked);

// Base64 with padding.
absl::StatusOr<std::string> DecodeBase64(std::string_view text);

}  // namespace atl::coordinator
