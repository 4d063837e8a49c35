#define PCRE2_CODE_UNIT_WIDTH 8
#include "coordinator/tokenizer/matcher.h"

#include <pcre2.h>

#include <optional>

#include "coordinator/tokenizer/unicode.h"

namespace atl::coordinator {

absl::StatusOr<Matcher> Matcher::Regex(const std::string& expression, Dialect dialect) {
  ATOLL_ASSIGN_OR_RETURN(const std::string pattern, ForPcre2(expression, dialect));
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP,
                                   &error, &offset, context.get());
  if (code == nullptr) {
    char message[256] = {};
    pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof(message));
    return InvalidArgument("the expression \"{}\", for PCRE2 \"{}\", is wrong at offset {}: {}", expression, pattern,
                           offset, message);
  }
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // slower without, never wrong
  Matcher matcher;
  matcher.code_.reset(code, [](void* c) { pcre2_code_free(static_cast<pcre2_code*>(c)); });
  return matcher;
}

absl::StatusOr<Matcher> Matcher::Literal(const std::string& text) {
  if (text.empty()) return InvalidArgument("a pattern is an empty string");
  Matcher matcher;
  matcher.literal_ = text;
  return matcher;
}

Matcher Matcher::Characters(uint16_t classes) {
  Matcher matcher;
  matcher.classes_ = matcher.ascii_classes_ = classes;
  return matcher;
}

Matcher Matcher::Punctuation() {
  Matcher matcher = Characters(kPunctuation);
  matcher.ascii_classes_ |= kSymbol;
  return matcher;
}

void Matcher::Find(std::string_view text, std::vector<Span>* matches) const {
  matches->clear();
  if (code_ != nullptr) return FindRegex(text, matches);
  if (!literal_.empty()) {
    for (size_t at = text.find(literal_); at != std::string_view::npos;
         at = text.find(literal_, at + literal_.size())) {
      matches->push_back({at, at + literal_.size()});
    }
    return;
  }
  const CharClasses& classes = CharClasses::Get();
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = DecodeUtf8(text.data() + at);
    if (classes.Of(c.value) & (c.value < 0x80 ? ascii_classes_ : classes_)) matches->push_back({at, at + c.bytes});
    at += c.bytes;
  }
}

// One match after the other, an empty one never where the last one ended.
void Matcher::FindRegex(std::string_view text, std::vector<Span>* matches) const {
  const auto* code = static_cast<const pcre2_code*>(code_.get());
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(pcre2_match_data_create(1, nullptr),
                                                                                 pcre2_match_data_free);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  std::optional<size_t> last_end;
  for (size_t at = 0; at <= text.size();) {
    // The text is known to be UTF-8; without NO_UTF_CHECK a long one would be checked again for each match.
    int found = pcre2_match(code, subject, text.size(), at, PCRE2_NO_UTF_CHECK, data.get(), nullptr);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
      found = pcre2_match(code, subject, text.size(), at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data.get(), nullptr);
    }
    if (found < 0) break;  // no further match; or an expression that ran into PCRE2's limits, which ends its matches
    const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data.get());
    if (offsets[0] == offsets[1] && last_end == offsets[1]) {
      at = offsets[1] + (offsets[1] < text.size() ? DecodeUtf8(text.data() + offsets[1]).bytes : 1);
      continue;
    }
    matches->push_back({offsets[0], offsets[1]});
    last_end = at = offsets[1];
  }
}

}  // namespace atl::coordinator
