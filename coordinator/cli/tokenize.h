// `atoll tokenize`: what a tokenizer and a chat template make of texts. JSON lines in, JSON lines out.
//
//   ATOLL_RETURN_IF_ERROR(RunTokenize({.model = "models/checkpoints/tiny-deepseek-v3"}, std::cin, std::cout));
//
//   {"text": "Hi"}                                     gives {"ids": [...], "text": ..., "decoded": ...}
//   {"messages": [{"role": "user", "content": "Hi"}]}  likewise
//
// text is what was encoded (the rendered prompt of messages), decoded what the ids stand for, special tokens shown.
// Further keys of a line: "add_special" (texts; false unless given) puts BOS and EOS as the tokenizer's file says; with
// messages every key reaches the template (tools, add_generation_prompt, which is true unless given, ...).
// Without a tokenizer (a template alone) messages give {"text": ...}.
// A line that cannot be used gives {"error": ...}, and the next one is read.
#pragma once

#include <iosfwd>
#include <string>

#include "parallel/base/status.h"

namespace atl::coordinator {

struct TokenizeOptions {
  std::string model;      // a model directory or GGUF file: its tokenizer and template
  std::string tokenizer;  // a file instead: tokenizer.json, tiktoken or tekken ranks (perhaps gzipped), GGUF
  // A Jinja file instead of the model's template, with what its bos_token and eos_token are.
  std::string chat_template, bos, eos;
  std::string date;  // what strftime_now says, YYYY-MM-DD; empty: today
};

// An error: neither of the three is given, or one cannot be loaded. A model without a template is none: only its lines
// with messages are refused.
absl::Status RunTokenize(const TokenizeOptions& options, std::istream& in, std::ostream& out);

}  // namespace atl::coordinator
