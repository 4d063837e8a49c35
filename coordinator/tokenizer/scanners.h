// Hand-written scanners for the expressions of known_expressions.h: what a sequence of isolating Splits by them gives,
// at several hundred MB/s where PCRE2 gives a few tens. Tests hold each equal to PCRE2 on random Unicode.
//
//   if (const Scanner scan = ScannerFor(expressions)) scan(text, &pieces);
#pragma once

#include <string_view>
#include <vector>

#include "coordinator/tokenizer/known_expressions.h"
#include "coordinator/tokenizer/matcher.h"

namespace atl::coordinator {

// Appends the pieces of `text`, which is UTF-8, shifted by `shift`: together they are the whole text.
using Scanner = void (*)(std::string_view text, size_t shift, std::vector<Span>* pieces);

// nullptr: no scanner is known. Escaped and literal line ends in a class are the same.
Scanner ScannerFor(const Expressions& expressions);

}  // namespace atl::coordinator
