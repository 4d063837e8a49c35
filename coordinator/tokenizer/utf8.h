// What stands at one place of a text that may or may not be UTF-8.
#pragma once

#include <cstddef>
#include <string_view>

namespace atl::coordinator {

enum class Utf8 {
  kWhole,    // a well-formed character: no overlong form, no surrogate, at most U+10FFFF
  kCut,      // the beginning of one; the text ends before it does
  kInvalid,  // neither
};
struct Utf8Part {
  Utf8 kind;
  size_t bytes;  // kInvalid: the longest part that could have begun a character, at least 1: one U+FFFD stands for it
};
// `at` < text.size().
Utf8Part Utf8At(std::string_view text, size_t at);

// Where the whole characters that begin at `at` end: text.size() when all the rest is UTF-8.
size_t Utf8End(std::string_view text, size_t at);

}  // namespace atl::coordinator
