// What kind of character a code point is, as tokenizer expressions ask it: one 16-bit mask for each, from ICU's tables.
//
//   const CharClasses& classes = CharClasses::Get();
//   if (classes.Of(c) & (kLetter | kMark)) ...
//   const CodePoint c = DecodeUtf8(text.data() + at);   // text is UTF-8: Utf8.h says how to know
//
// A code point newer than the Unicode version of ICU has no class at all.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace atl::coordinator {

enum CharClass : uint16_t {
  kLetter = 1 << 0,       // L
  kMark = 1 << 1,         // M
  kNumber = 1 << 2,       // N
  kPunctuation = 1 << 3,  // P
  kSymbol = 1 << 4,       // S
  kSpace = 1 << 5,        // White_Space: what \s is to Oniguruma and to Rust
  kNewline = 1 << 6,      // \r and \n
  kUpperish = 1 << 7,     // Lu Lt Lm Lo M: the first part of a word to o200k's expression
  kLowerish = 1 << 8,     // Ll Lm Lo M: the second
  kHan = 1 << 9,          // Script=Han (not Script_Extensions)
  kCjkRange = 1 << 10,    // DeepSeek's [一-龥぀-ゟ゠-ヿ]
  kWord = 1 << 11,        // \w: Alphabetic, M, Nd, Pc, Join_Control
};

class CharClasses {
 public:
  static const CharClasses& Get();  // built at the first call, some milliseconds
  uint16_t Of(uint32_t code_point) const { return masks_[blocks_[code_point >> 8] + (code_point & 255)]; }
  const uint16_t* ascii() const { return masks_.data(); }  // of the first 128

 private:
  CharClasses();
  std::vector<uint32_t> blocks_;  // [0x1100] where the masks of 256 code points begin; equal blocks are one
  std::vector<uint16_t> masks_;
};

struct CodePoint {
  uint32_t value;
  uint32_t bytes;
};
// The character that begins at `at`, which is whole and well-formed.
inline CodePoint DecodeUtf8(const char* at) {
  const auto* p = reinterpret_cast<const uint8_t*>(at);
  if (p[0] < 0x80) return {p[0], 1};
  if (p[0] < 0xe0) return {(p[0] & 0x1fu) << 6 | (p[1] & 0x3fu), 2};
  if (p[0] < 0xf0) return {(p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu), 3};
  return {(p[0] & 0x07u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu), 4};
}
void AppendUtf8(uint32_t code_point, std::string* text);

}  // namespace atl::coordinator
