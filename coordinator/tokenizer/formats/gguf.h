// A tokenizer from the metadata of a GGUF file (tokenizer.ggml.*), as llama.cpp reads it.
//
//   GgufTokenizerMetadata metadata;  ...                       // whoever reads the file fills it
//   ATOLL_ASSIGN_OR_RETURN(auto tokenizer, LoadGgufTokenizer(std::move(metadata)));
//
// Model "gpt2" is byte-level BPE by merges, cut by the expressions that `pre` names; "llama" is SentencePiece's BPE
// over the whole text, by the scores of its tokens, the leftmost first among equals, with byte fallback. Others are
// refused. The format does not say whether the original tokenizer normalizes (Qwen's does, to NFC); like llama.cpp,
// this one does not.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/tokenizer/tokenizer.h"

namespace atl::coordinator {

enum class GgufTokenType : int32_t {  // tokenizer.ggml.token_type
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,      // found in a text, hidden when decoded
  kUserDefined = 4,  // found in a text, shown
  kUnused = 5,
  kByte = 6,  // "<0x0A>"
};

struct GgufTokenizerMetadata {
  std::string model;                                  // tokenizer.ggml.model
  std::string pre;                                    // tokenizer.ggml.pre; empty: "default"
  std::vector<std::string> tokens;                    // [ids]
  std::vector<float> scores;                          // [ids]; "llama" only, may be empty otherwise
  std::vector<int32_t> token_types;                   // [ids]; empty: all normal
  std::vector<std::string> merges;                    // "left right", best first; "gpt2" only
  std::optional<int64_t> bos_id, eos_id, unknown_id;  // tokenizer.ggml.{bos,eos,unknown}_token_id
  std::optional<bool> add_bos, add_eos;               // absent: llama.cpp's default for model and pre
  std::optional<bool> add_space_prefix;               // of "llama" only
};

// InvalidArgument: sizes that do not fit, ids out of range, merges of unknown tokens. Unimplemented: model, pre.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadGgufTokenizer(const GgufTokenizerMetadata& metadata);

}  // namespace atl::coordinator
