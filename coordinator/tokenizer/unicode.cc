#include "coordinator/tokenizer/unicode.h"

#include <unicode/uset.h>

#include <map>
#include <memory>
#include <utility>

#include "parallel/base/status.h"

namespace atl::coordinator {
namespace {

constexpr uint32_t kCodePoints = 0x110000, kBlock = 256;

// Members of each class in ICU's notation.
constexpr std::pair<uint16_t, const char16_t*> kDefinitions[] = {
    {kLetter, u"[:L:]"},
    {kMark, u"[:M:]"},
    {kNumber, u"[:N:]"},
    {kPunctuation, u"[:P:]"},
    {kSymbol, u"[:S:]"},
    {kSpace, u"[:White_Space:]"},
    {kNewline, u"[\\u000a\\u000d]"},
    {kUpperish, u"[[:Lu:][:Lt:][:Lm:][:Lo:][:M:]]"},
    {kLowerish, u"[[:Ll:][:Lm:][:Lo:][:M:]]"},
    {kHan, u"[:Script=Han:]"},
    {kCjkRange, u"[\\u4e00-\\u9fa5\\u3040-\\u30ff]"},
    {kWord, u"[[:Alphabetic:][:M:][:Nd:][:Pc:][:Join_Control:]]"},
};

}  // namespace

CharClasses::CharClasses() : blocks_(kCodePoints / kBlock) {
  std::vector<uint16_t> flat(kCodePoints);
  for (const auto& [mask, definition] : kDefinitions) {
    UErrorCode error = U_ZERO_ERROR;
    const std::unique_ptr<USet, decltype(&uset_close)> set(uset_openPattern(definition, -1, &error), uset_close);
    ATOLL_CHECK(U_SUCCESS(error), "ICU has no data for a class of characters: {}", u_errorName(error));
    for (int32_t item = 0; item < uset_getItemCount(set.get()); ++item) {
      UChar32 first = 0, last = 0;
      if (uset_getItem(set.get(), item, &first, &last, nullptr, 0, &error) != 0) continue;  // a string, no range
      for (UChar32 c = first; c <= last; ++c) flat[c] |= mask;
    }
  }
  std::map<std::vector<uint16_t>, uint32_t> known;
  for (uint32_t block = 0; block < blocks_.size(); ++block) {
    const std::vector<uint16_t> masks(flat.begin() + block * kBlock, flat.begin() + (block + 1) * kBlock);
    const auto [found, added] = known.emplace(masks, masks_.size());
    if (added) masks_.insert(masks_.end(), masks.begin(), masks.end());
    blocks_[block] = found->second;
  }
}

const CharClasses& CharClasses::Get() {
  static const CharClasses classes;
  return classes;
}

void AppendUtf8(uint32_t c, std::string* text) {
  if (c < 0x80) {
    *text += static_cast<char>(c);
    return;
  }
  if (c < 0x800) {
    *text += static_cast<char>(0xc0 | c >> 6);
  } else {
    if (c < 0x10000) {
      *text += static_cast<char>(0xe0 | c >> 12);
    } else {
      *text += static_cast<char>(0xf0 | c >> 18);
      *text += static_cast<char>(0x80 | (c >> 12 & 0x3f));
    }
    *text += static_cast<char>(0x80 | (c >> 6 & 0x3f));
  }
  *text += static_cast<char>(0x80 | (c & 0x3f));
}

}  // namespace atl::coordinator
