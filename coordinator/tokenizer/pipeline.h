// A tokenizer made of its parts, whatever file they were read from: added tokens, normalizer, pre-tokenizer, byte-pair
// encoding, decoder.
//
//   PipelineParts parts;  ...                       // formats/ fill it
//   std::unique_ptr<Tokenizer> t = MakePipeline(std::move(parts), std::move(bpe));
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/tokenizer/added_tokens.h"
#include "coordinator/tokenizer/bpe.h"
#include "coordinator/tokenizer/normalizer.h"
#include "coordinator/tokenizer/pre_tokenizer.h"
#include "coordinator/tokenizer/token_table.h"
#include "coordinator/tokenizer/tokenizer.h"

namespace atl::coordinator {

struct PipelineParts {
  AddedTokens added;             // found in the text as it is
  Normalizer normalizer;         // of what is between them
  AddedTokens added_normalized;  // found in the normalized text
  PreTokenizer pre_tokenizer;
  TokenTable tokens;  // of all ids
  DecodeRules decode;
  std::vector<int32_t> before, after;  // what add_special puts around a text
  // The vocabulary's tokens are spelled in the byte-level alphabet; those that are not are in `odd_tokens`.
  bool byte_level = false;
  std::map<std::string, int32_t, std::less<>> odd_tokens;
};

std::unique_ptr<Tokenizer> MakePipeline(PipelineParts parts, Bpe bpe);

}  // namespace atl::coordinator
