#include <algorithm>

#include "coordinator/tokenizer/tokenizer.h"
#include "coordinator/tokenizer/utf8.h"

namespace atl::coordinator {
namespace {

constexpr const char* kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Moves characters from the front of `held` to the result, U+FFFD for what is none. A character that may still become
// whole stays, unless this is the end.
std::string TakeText(std::string* held, bool end) {
  std::string text;
  size_t at = 0;
  while (at < held->size()) {
    const Utf8Part part = Utf8At(*held, at);
    if (part.kind == Utf8::kCut && !end) break;
    part.kind == Utf8::kWhole ? text.append(*held, at, part.bytes) : text += kReplacement;
    at += part.bytes;
  }
  held->erase(0, at);
  return text;
}

}  // namespace

const DecodeRules& Tokenizer::decode_rules() const {
  static const DecodeRules joined;
  return joined;
}

std::string StreamDecoder::Push(int32_t id) {
  const bool shown = !skip_special_ || std::find(shown_.begin(), shown_.end(), id) != shown_.end();
  if (!shown && tokenizer_->IsSpecial(id)) return "";
  const DecodeRules& rules = tokenizer_->decode_rules();
  if (rules.joined) {
    held_ += tokenizer_->TokenBytes(id);
    return TakeText(&held_, /*end=*/false);
  }
  const bool first = std::exchange(first_, false);
  if (const int byte = rules.byte_fallback ? tokenizer_->FallbackByte(id) : -1; byte >= 0) {
    held_ += static_cast<char>(byte);
    return "";
  }
  std::string text = EndRun();
  if (!first) text += rules.separator;
  return Stripped(std::move(text += first ? tokenizer_->FirstTokenText(id) : tokenizer_->TokenBytes(id)));
}

std::string StreamDecoder::Finish() {
  if (tokenizer_->decode_rules().joined) return TakeText(&held_, /*end=*/true);
  std::string text = Stripped(EndRun());
  stripped_.clear();
  return text;
}

std::string StreamDecoder::EndRun() {
  std::string text;
  if (Utf8End(held_, 0) == held_.size()) {
    text = held_;
  } else {
    for (size_t i = 0; i < held_.size(); ++i) text += kReplacement;
  }
  held_.clear();
  return text;
}

// `text` without what the whole text is stripped of at its ends.
std::string StreamDecoder::Stripped(std::string text) {
  const StripRule& rule = tokenizer_->decode_rules().strip;
  if (rule.text.empty()) return text;
  while (strip_left_ > 0 && !text.empty()) {
    if (!text.starts_with(rule.text)) {
      strip_left_ = 0;
    } else {
      text.erase(0, rule.text.size());
      --strip_left_;
    }
  }
  text.insert(0, stripped_);
  size_t kept = text.size();
  for (size_t n = 0; n < rule.right && std::string_view(text).substr(0, kept).ends_with(rule.text); ++n) {
    kept -= rule.text.size();
  }
  stripped_ = text.substr(kept);
  text.resize(kept);
  return text;
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special) const {
  StreamDecoder decoder(this, skip_special);
  std::string text;
  for (const int32_t id : ids) text += decoder.Push(id);
  return text + decoder.Finish();
}

}  // namespace atl::coordinator
