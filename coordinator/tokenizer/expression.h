// Tokenizer files are written for other engines of regular expressions: Hugging Face's for Oniguruma, tiktoken's for
// Rust's. PCRE2 runs them here, after a translation that keeps their meaning.
//
//   ATOLL_ASSIGN_OR_RETURN(std::string pattern, ForPcre2(R"([\p{L}&&[^\p{Han}]]+|\s+)", Dialect::kRust));
//
// What differs and is rewritten: \s \d \w (Unicode's White_Space, Nd and word characters everywhere), \h and \v,
// scripts (PCRE2's \p{Han} is Script_Extensions), intersections of classes ([a&&[^b]] becomes a look-ahead), {,n}, ^
// and $. Unimplemented: what PCRE2 cannot say, or what the engines are not known to agree on (\b \G \R \X,
// conditionals, options but i, POSIX brackets, nested classes). Unicode versions differ too: a code point newer than
// PCRE2's tables is of no category.
#pragma once

#include <string>

#include "parallel/base/status.h"

namespace atl::coordinator {

enum class Dialect {
  kOniguruma,  // ^ and $ are those of a line
  kRust,       // those of the text
};
absl::StatusOr<std::string> ForPcre2(const std::string& expression, Dialect dialect);

}  // namespace atl::coordinator
