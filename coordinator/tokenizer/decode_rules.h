// How tokens become text, where they are more than bytes in a row: SentencePiece's spaces, byte fallback, prefixes.
// stream_decoder.cc follows them token by token.
//
//   DecodeRules rules{.joined = false, .byte_fallback = true};
//   rules.steps.push_back({.kind = TokenStep::kReplace, .from = "▁", .to = " "});   // ▁the -> " the"
//   rules.strip = {.text = " ", .left = 1};                                         // of the whole text
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace atl::coordinator {

struct StripRule {
  std::string text;            // a character
  size_t left = 0, right = 0;  // at most so many of it at each end
};

// What is done to each token on its own.
struct TokenStep {
  enum Kind {
    kReplace,      // `from` by `to`
    kDropInFirst,  // `from` is removed from the first token and replaced by `to` in all others
    kStrip,        // `strip`
  };
  Kind kind = kReplace;
  std::string from, to;
  StripRule strip;
};

struct DecodeRules {
  // Tokens are bytes, the text is what their bytes are in UTF-8. Otherwise each token is a text.
  bool joined = true;
  std::vector<TokenStep> steps;
  // A run of tokens that are one byte each: their text if together they are UTF-8, U+FFFD for each if not.
  bool byte_fallback = false;
  StripRule strip;        // of the whole text
  std::string separator;  // between tokens
};

std::string ApplySteps(const std::vector<TokenStep>& steps, std::string_view token, bool first);
std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to);  // `from` is not empty

}  // namespace atl::coordinator
