#include "coordinator/tokenizer/scanners.h"

#include <algorithm>

#include "coordinator/tokenizer/scan_text.h"

namespace atl::coordinator {
namespace {

bool IsAsciiLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

//  ?[^\s\p{L}\p{N}]+ and then `tail` bytes ([\r\n]*); nullptr: not here.
template <uint16_t kStop>
At Others(const ScanText<kStop>& t, At at, Unit first, std::string_view tail) {
  constexpr uint16_t kNot = kSpace | kLetter | kNumber;
  if (*at == ' ') {
    const Unit next = t.Look(++at);
    if (next.bytes == 0 || next.Is(kNot)) return nullptr;
  } else if (first.Is(kNot)) {
    return nullptr;
  }
  at = t.WhileNot(at, kNot);
  while (at != t.end() && tail.find(*at) != std::string_view::npos) ++at;
  return at;
}

// Each Next returns where the piece that begins at `at`, which is not the end, ends.
struct Gpt2 {
  template <uint16_t kStop>
  static At Next(const ScanText<kStop>& t, At at) {
    if (*at == '\'') {
      if (const size_t bytes = t.template Contraction<false>(at)) return at + bytes;
    }
    const Unit first = t.Look(at);
    const Unit word = *at == ' ' ? t.Look(at + 1) : first;  // the space before a word is part of it
    for (const uint16_t kind : {kLetter, kNumber}) {
      if (word.Is(kind)) return t.While(*at == ' ' ? at + 1 : at, kind);
    }
    if (const At end = Others(t, at, first, "")) return end;
    return t.template Spaces<false>(at);
  }
};

template <int kMaxDigits>
struct Cl100k {
  static At Next(const ScanText<>& t, At at) {
    if (*at == '\'') {
      if (const size_t bytes = t.Contraction<true>(at)) return at + bytes;
    }
    const Unit first = t.Look(at);
    if (first.Is(kLetter)) return t.While(at + first.bytes, kLetter);
    if (first.Is(kNumber)) return t.AtMost(at, kMaxDigits, kNumber);
    if (!first.Is(kNewline)) {
      const Unit second = t.Look(at + first.bytes);
      if (second.Is(kLetter)) return t.While(at + first.bytes + second.bytes, kLetter);
    }
    if (const At end = Others(t, at, first, "\r\n")) return end;
    return t.Spaces<true>(at);
  }
};

// [upper]*[lower]+ or, with kUpperFirst, [upper]+[lower]*, from `at` on; nullptr: no match. Marks and letters without
// case are both upper and lower, so the first form may have to give some back.
template <bool kUpperFirst, uint16_t kWithout>
At CasedWord(const ScanText<>& t, At at) {
  const auto is = [](Unit u, uint16_t kind) { return u.Is(kind) && !u.Is(kWithout); };
  At p = at, given_back = nullptr;  // past the last one that is both
  for (Unit u; is(u = t.Look(p), kUpperish);) {
    p += u.bytes;
    if (u.Is(kLowerish)) given_back = p;
  }
  if (kUpperFirst && p == at) return nullptr;
  const At lower = p;
  for (Unit u; is(u = t.Look(p), kLowerish);) p += u.bytes;
  return kUpperFirst || p > lower ? p : given_back;
}

template <int kMaxDigits, bool kContractions, bool kSlash, bool kHanApart>
struct O200k {
  static constexpr uint16_t kWithout = kHanApart ? kHan : 0;

  static At Next(const ScanText<>& t, At at) {
    const Unit first = t.Look(at);
    if (kHanApart && first.Is(kHan)) return t.While(at, kHan);
    if (first.Is(kNumber)) return t.AtMost(at, kMaxDigits, kNumber);  // no word begins with one
    if (At end = Word(t, at, first)) {
      if (kContractions && t.IsByte(end, '\'')) end += t.Contraction<true>(end);
      return end;
    }
    if (const At end = Others(t, at, first, kSlash ? "\r\n/" : "\r\n")) return end;
    return t.Spaces<true>(at);
  }

  // Both forms, each with one character before the word if it may be, else without.
  static At Word(const ScanText<>& t, At at, Unit first) {
    const bool lead = !first.Is(kNewline | kLetter);
    if (lead && !t.Look(at + first.bytes).Is(kUpperish | kLowerish) && !first.Is(kMark)) return nullptr;
    At end = lead ? CasedWord<false, kWithout>(t, at + first.bytes) : nullptr;
    if (end == nullptr) end = CasedWord<false, kWithout>(t, at);
    if (end == nullptr && lead) end = CasedWord<true, kWithout>(t, at + first.bytes);
    if (end == nullptr) end = CasedWord<true, kWithout>(t, at);
    return end;
  }
};

// The third expression. Digits and CJK runs are apart already: with them as kStop outside of CJK, with nothing inside.
struct DeepSeekWord {
  static constexpr uint16_t kNoLead = kNewline | kLetter | kPunctuation | kSymbol;

  template <uint16_t kStop>
  static At Next(const ScanText<kStop>& t, At at) {
    if (const At end = Match(t, at)) return end;
    // Characters that nothing matches are one piece up to the next match.
    Unit u = t.Look(at);
    do {
      at += u.bytes;
    } while ((u = t.Look(at)).bytes > 0 && Match(t, at) == nullptr);
    return at;
  }

  template <uint16_t kStop>
  static At Match(const ScanText<kStop>& t, At at) {
    const Unit first = t.Look(at);
    const At next = at + first.bytes;
    const bool ascii = static_cast<uint8_t>(*at) < 0x80;
    if (ascii && first.Is(kPunctuation | kSymbol) && next != t.end() && IsAsciiLetter(*next)) {
      return std::find_if_not(next, t.end(), IsAsciiLetter);
    }
    if (first.Is(kLetter | kMark)) return t.While(next, kLetter | kMark);
    if (!first.Is(kNoLead) && t.Look(next).Is(kLetter | kMark)) return t.While(next, kLetter | kMark);
    const At word = *at == ' ' ? next : at;
    if (t.Look(word).Is(kPunctuation | kSymbol)) {
      return t.While(t.While(word, kPunctuation | kSymbol), kNewline);
    }
    return first.Is(kSpace) ? t.template Spaces<true>(at) : nullptr;
  }
};

void Add(At from, At begin, At end, size_t shift, std::vector<Span>* pieces) {
  pieces->push_back({shift + (begin - from), shift + (end - from)});
}

template <typename Rules>
void Scan(std::string_view text, size_t shift, std::vector<Span>* pieces) {
  const ScanText<> t(text);
  for (At at = t.begin(); at != t.end();) {
    const At end = Rules::Next(t, at);
    Add(t.begin(), at, end, shift, pieces);
    at = end;
  }
}

// Single digits, then GPT-2's.
void ScanDigitsGpt2(std::string_view text, size_t shift, std::vector<Span>* pieces) {
  const ScanText<> all(text);
  const ScanText<kNumber> words(text);
  for (At at = all.begin(); at != all.end();) {
    const Unit first = all.Look(at);
    const At end = first.Is(kNumber) ? at + first.bytes : Gpt2::Next(words, at);
    Add(all.begin(), at, end, shift, pieces);
    at = end;
  }
}

// Up to three digits, then runs of CJK, then words.
void ScanDeepSeekV3(std::string_view text, size_t shift, std::vector<Span>* pieces) {
  const ScanText<> all(text);
  const ScanText<kNumber | kCjkRange> words(text);
  for (At at = all.begin(); at != all.end();) {
    const Unit first = all.Look(at);
    if (first.Is(kCjkRange)) {
      const At end = all.While(at, kCjkRange);
      Scan<DeepSeekWord>(text.substr(at - all.begin(), end - at), shift + (at - all.begin()), pieces);
      at = end;
      continue;
    }
    const At end = first.Is(kNumber) ? all.AtMost(at, 3, kNumber) : DeepSeekWord::Next(words, at);
    Add(all.begin(), at, end, shift, pieces);
    at = end;
  }
}

// Literal line ends and escaped ones, escaped slashes and plain ones.
std::string Canonical(const std::string& expression) {
  std::string out;
  for (size_t i = 0; i < expression.size(); ++i) {
    const char c = expression[i];
    if (c == '\r' || c == '\n') {
      out += c == '\r' ? "\\r" : "\\n";
    } else if (c == '\\' && i + 1 < expression.size()) {
      if (expression[i + 1] != '/') out += c;
      out += expression[++i];
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

Scanner ScannerFor(const Expressions& expressions) {
  const std::pair<const Expressions&, Scanner> known[] = {
      {Gpt2Expressions(), Scan<Gpt2>},
      {DigitsGpt2Expressions(), ScanDigitsGpt2},
      {Cl100kExpressions(), Scan<Cl100k<3>>},
      {Qwen2Expressions(), Scan<Cl100k<1>>},
      {O200kExpressions(), Scan<O200k<3, true, true, false>>},
      {TekkenExpressions(), Scan<O200k<1, false, true, false>>},
      {KimiK2Expressions(), Scan<O200k<3, true, false, true>>},
      {DeepSeekV3Expressions(), ScanDeepSeekV3},
  };
  const auto same = [](const std::string& a, const std::string& b) { return Canonical(a) == Canonical(b); };
  for (const auto& [its, scanner] : known) {
    if (std::equal(its.begin(), its.end(), expressions.begin(), expressions.end(), same)) return scanner;
  }
  return nullptr;
}

}  // namespace atl::coordinator
