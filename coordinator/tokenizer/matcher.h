// Finds what pre-tokenizers and normalizers look for: matches of a regular expression (PCRE2, Unicode), of a literal
// string, or characters of some class.
//
//   ATOLL_ASSIGN_OR_RETURN(const Matcher matcher, Matcher::Regex(R"(\p{N}{1,3})", Dialect::kOniguruma));
//   std::vector<Span> matches;  matcher.Find(text, &matches);   // in order, not overlapping, perhaps empty ones
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/tokenizer/expression.h"

namespace atl::coordinator {

struct Span {
  size_t begin, end;
  size_t size() const { return end - begin; }
};

class Matcher {
 public:
  static absl::StatusOr<Matcher> Regex(const std::string& expression, Dialect dialect);
  static absl::StatusOr<Matcher> Literal(const std::string& text);  // InvalidArgument: empty
  static Matcher Characters(uint16_t classes);                      // with one of these classes (unicode.h)
  static Matcher Punctuation();                                     // P, and in ASCII S too

  // `text` is UTF-8 and all there is: look-behinds and anchors see nothing outside of it. `matches` is overwritten.
  void Find(std::string_view text, std::vector<Span>* matches) const;

 private:
  void FindRegex(std::string_view text, std::vector<Span>* matches) const;

  std::shared_ptr<void> code_;  // pcre2_code, of a regular expression
  std::string literal_;
  uint16_t classes_ = 0;
  uint16_t ascii_classes_ = 0;
};

}  // namespace atl::coordinator
