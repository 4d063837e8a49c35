// What scanners share: UTF-8 seen as classes of characters, and the alternatives that the expressions have in common.
// A character of a class in kStop is the end of the text to all who look at it: where one Split has cut, the next ones
// see nothing beyond.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "coordinator/tokenizer/matcher.h"
#include "coordinator/tokenizer/unicode.h"

namespace atl::coordinator {

using At = const char*;

struct Unit {
  uint16_t classes;
  uint32_t bytes;  // 0: the text's end, which has no class
  bool Is(uint16_t mask) const { return (classes & mask) != 0; }
};

template <uint16_t kStop = 0>
class ScanText {
 public:
  explicit ScanText(std::string_view text)
      : begin_(text.data()), end_(text.data() + text.size()), classes_(CharClasses::Get()) {}
  At begin() const { return begin_; }
  At end() const { return end_; }

  Unit Look(At at) const {
    if (at == end_) return {0, 0};
    Unit unit{classes_.ascii()[static_cast<uint8_t>(*at) & 0x7f], 1};
    if (static_cast<uint8_t>(*at) >= 0x80) {
      const CodePoint c = DecodeUtf8(at);
      unit = {classes_.Of(c.value), c.bytes};
    }
    return unit.Is(kStop) ? Unit{0, 0} : unit;
  }
  bool IsByte(At at, char byte) const { return at != end_ && *at == byte; }

  // Past the characters from `at` on that have one of the classes, or none of them.
  At While(At at, uint16_t mask) const {
    for (Unit u; (u = Look(at)).Is(mask);) at += u.bytes;
    return at;
  }
  At WhileNot(At at, uint16_t mask) const {
    for (Unit u; (u = Look(at)).bytes > 0 && !u.Is(mask);) at += u.bytes;
    return at;
  }
  At AtMost(At at, int count, uint16_t mask) const {  // the first of them is known to be one
    for (Unit u; count > 0 && (u = Look(at)).Is(mask); --count) at += u.bytes;
    return at;
  }

  // \s*[\r\n]+|\s+(?!\S)|\s+ at a space, without the first alternative unless kLines.
  template <bool kLines>
  At Spaces(At at) const {
    At p = at, last = at,
       line = nullptr;  // the last one is where the last space begins, the line past the last line end
    Unit u;
    while ((u = Look(p)).Is(kSpace)) {
      last = p;
      p += u.bytes;
      if (kLines && u.Is(kNewline)) line = p;
    }
    if (line != nullptr) return line;
    return u.bytes == 0 || last == at ? p : last;  // the space before a word belongs to the word
  }

  // Bytes of 's|'t|'re|'ve|'m|'ll|'d at an apostrophe; 0: none.
  template <bool kAnyCase>
  size_t Contraction(At at) const {
    const auto is = [&](size_t i, char small) {
      return static_cast<size_t>(end_ - at) > i && (at[i] == small || (kAnyCase && at[i] == small - 32));
    };
    for (const char one : {'s', 't', 'm', 'd'}) {
      if (is(1, one)) return 2;
    }
    if ((is(1, 'r') || is(1, 'v')) && is(2, 'e')) return 3;
    if (is(1, 'l') && is(2, 'l')) return 3;
    // U+017F is a small s too.
    if (kAnyCase && end_ - at > 2 && at[1] == '\xc5' && at[2] == '\xbf') return 3;
    return 0;
  }

 private:
  At begin_, end_;
  const CharClasses& classes_;
};

}  // namespace atl::coordinator
