#include "coordinator/tokenizer/normalizer.h"

#include <unicode/bytestream.h>
#include <unicode/locid.h>
#include <unicode/normalizer2.h>
#include <unicode/stringpiece.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <cstring>

#include "coordinator/tokenizer/unicode.h"

namespace atl::coordinator {
namespace {

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; });
}

const icu::Normalizer2* FormNamed(const std::string& name, UErrorCode* error) {
  if (name == "NFC") return icu::Normalizer2::getNFCInstance(*error);
  if (name == "NFD") return icu::Normalizer2::getNFDInstance(*error);
  if (name == "NFKC") return icu::Normalizer2::getNFKCInstance(*error);
  return name == "NFKD" ? icu::Normalizer2::getNFKDInstance(*error) : nullptr;
}

template <typename F>  // append(code point, its bytes, out)
std::string_view EachCharacter(std::string_view text, std::string* out, const F& append) {
  out->reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = DecodeUtf8(text.data() + at);
    append(c.value, text.substr(at, c.bytes), out);
    at += c.bytes;
  }
  return *out;
}

}  // namespace

absl::Status Normalizer::AddForm(const std::string& name) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* form = FormNamed(name, &error);
  if (form == nullptr || U_FAILURE(error)) return Unimplemented("normalizer \"{}\" is not supported", name);
  steps_.push_back([form](std::string_view text, std::string* out) -> std::string_view {
    if (IsAscii(text)) return text;  // ASCII is in every form
    UErrorCode status = U_ZERO_ERROR;
    const icu::StringPiece piece(text.data(), static_cast<int32_t>(text.size()));
    if (form->isNormalizedUTF8(piece, status) && U_SUCCESS(status)) return text;
    icu::StringByteSink<std::string> sink(out);
    form->normalizeUTF8(0, piece, sink, nullptr, status);
    ATOLL_CHECK(U_SUCCESS(status), "ICU cannot normalize {} bytes: {}", text.size(), u_errorName(status));
    return *out;
  });
  return absl::OkStatus();
}

void Normalizer::AddReplace(Matcher matcher, std::string content) {
  steps_.push_back([matcher = std::move(matcher), content = std::move(content)](std::string_view text,
                                                                                std::string* out) -> std::string_view {
    std::vector<Span> matches;
    matcher.Find(text, &matches);
    if (matches.empty()) return text;
    out->reserve(text.size() + matches.size() * content.size());
    size_t done = 0;
    for (const Span& match : matches) {
      out->append(text, done, match.begin - done).append(content);
      done = match.end;
    }
    return out->append(text, done);
  });
}

void Normalizer::AddPrepend(std::string prefix) {
  steps_.push_back([prefix = std::move(prefix)](std::string_view text, std::string* out) -> std::string_view {
    if (text.empty()) return text;
    out->reserve(prefix.size() + text.size());
    return out->append(prefix).append(text);
  });
}

void Normalizer::AddLowercase() {
  steps_.push_back([](std::string_view text, std::string* out) {
    // Character by character: a final sigma does not know that it is one.
    return EachCharacter(text, out, [](uint32_t c, std::string_view, std::string* lower) {
      if (c < 0x80) {
        *lower += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
      } else {
        icu::UnicodeString(static_cast<UChar32>(c)).toLower(icu::Locale::getRoot()).toUTF8String(*lower);
      }
    });
  });
}

void Normalizer::AddStrip(bool left, bool right) {
  steps_.push_back([left, right](std::string_view text, std::string*) {
    const CharClasses& classes = CharClasses::Get();
    while (left && !text.empty()) {
      const CodePoint c = DecodeUtf8(text.data());
      if ((classes.Of(c.value) & kSpace) == 0) break;
      text.remove_prefix(c.bytes);
    }
    while (right && !text.empty()) {
      size_t last = text.size() - 1;
      while (last > 0 && (static_cast<uint8_t>(text[last]) & 0xc0) == 0x80) --last;
      if ((classes.Of(DecodeUtf8(text.data() + last).value) & kSpace) == 0) break;
      text.remove_suffix(text.size() - last);
    }
    return text;
  });
}

void Normalizer::AddStripAccents() {
  steps_.push_back([](std::string_view text, std::string* out) {
    return EachCharacter(text, out, [](uint32_t c, std::string_view bytes, std::string* kept) {
      if (!(CharClasses::Get().Of(c) & kMark)) kept->append(bytes);
    });
  });
}

std::string_view Normalizer::Apply(std::string_view text, std::string* buffer) const {
  std::string next;
  for (const Step& step : steps_) {
    next.clear();
    const std::string_view result = step(text, &next);
    if (result.data() >= next.data() && result.data() <= next.data() + next.size() && !next.empty()) {
      const size_t begin = result.data() - next.data();
      buffer->swap(next);  // `next` keeps what `text` may still be a view of until the coming step is done
      text = std::string_view(*buffer).substr(begin, result.size());
    } else {
      text = result;
    }
  }
  return text;
}

}  // namespace atl::coordinator
