// A tokenizer from the text of its file, whichever of the formats it is in: tokenizer.json, tiktoken, tekken.
#pragma once

#include <memory>
#include <string>

#include "coordinator/tokenizer/tokenizer.h"

namespace atl::coordinator {

// `config`: the text of the tokenizer_config.json beside it, or empty. InvalidArgument, Unimplemented.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTokenizer(const std::string& text, const std::string& config);

}  // namespace atl::coordinator
