#include "coordinator/tokenizer/utf8.h"

#include <cstdint>
#include <cstring>

namespace atl::coordinator {

Utf8Part Utf8At(std::string_view text, size_t at) {
  const auto first = static_cast<uint8_t>(text[at]);
  if (first < 0x80) return {Utf8::kWhole, 1};
  if (first < 0xc2 || first > 0xf4) return {Utf8::kInvalid, 1};
  const size_t length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  for (size_t i = 1; i < length; ++i) {
    if (at + i == text.size()) return {Utf8::kCut, i};
    // Only the second byte depends on the first: overlong forms, surrogates and what is above U+10FFFF end here.
    uint8_t low = 0x80, high = 0xbf;
    if (i == 1 && first == 0xe0) low = 0xa0;
    if (i == 1 && first == 0xed) high = 0x9f;
    if (i == 1 && first == 0xf0) low = 0x90;
    if (i == 1 && first == 0xf4) high = 0x8f;
    const auto byte = static_cast<uint8_t>(text[at + i]);
    if (byte < low || byte > high) return {Utf8::kInvalid, i};
  }
  return {Utf8::kWhole, length};
}

size_t Utf8End(std::string_view text, size_t at) {
  while (at < text.size()) {
    uint64_t eight = 0;
    if (at + 8 <= text.size()) {
      std::memcpy(&eight, text.data() + at, 8);
      if ((eight & 0x8080808080808080u) == 0) {  // ASCII
        at += 8;
        continue;
      }
    }
    const Utf8Part part = Utf8At(text, at);
    if (part.kind != Utf8::kWhole) break;
    at += part.bytes;
  }
  return at;
}

}  // namespace atl::coordinator
