#include "coordinator/tokenizer/added_tokens.h"

#include <algorithm>

#include "coordinator/tokenizer/unicode.h"

namespace atl::coordinator {
namespace {

// The place of the character that ends at `at`, which is not 0.
size_t Before(std::string_view text, size_t at) {
  do {
    --at;
  } while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xc0) == 0x80);
  return at;
}
uint16_t ClassAt(std::string_view text, size_t at) { return CharClasses::Get().Of(DecodeUtf8(text.data() + at).value); }

bool IsSingleWord(std::string_view text, size_t begin, size_t end) {
  return (begin == 0 || (ClassAt(text, Before(text, begin)) & kWord) == 0) &&
         (end == text.size() || (ClassAt(text, end) & kWord) == 0);
}

size_t SpacesBegin(std::string_view text, size_t end) {
  while (end > 0 && (ClassAt(text, Before(text, end)) & kSpace) != 0) end = Before(text, end);
  return end;
}

size_t SpacesEnd(std::string_view text, size_t begin) {
  while (begin < text.size() && (ClassAt(text, begin) & kSpace) != 0) begin += DecodeUtf8(text.data() + begin).bytes;
  return begin;
}

}  // namespace

absl::Status AddedTokens::Add(const AddedToken& token) {
  if (token.text.empty()) return InvalidArgument("added token {} has no content", token.id);
  int32_t node = 0;
  for (const char byte : token.text) {
    const auto next = static_cast<int32_t>(ends_.size());
    edges_.Put(node, static_cast<uint8_t>(byte), {next, 0}, /*replace=*/false);
    node = edges_.Find(node, static_cast<uint8_t>(byte))->a;
    if (node == next) ends_.push_back(-1);
  }
  if (ends_[node] >= 0) {
    return InvalidArgument("added tokens {} and {} are both \"{}\"", tokens_[ends_[node]].id, token.id, token.text);
  }
  ends_[node] = static_cast<int32_t>(tokens_.size());
  begins_[static_cast<uint8_t>(token.text[0])] = true;
  tokens_.push_back(token);
  return absl::OkStatus();
}

AddedTokens::Match AddedTokens::LongestAt(std::string_view text, size_t at) const {
  Match longest;
  int32_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    const PairTable::Value* edge = edges_.Find(node, static_cast<uint8_t>(text[i]));
    if (edge == nullptr) break;
    node = edge->a;
    if (ends_[node] >= 0) longest = {ends_[node], i + 1 - at};
  }
  return longest;
}

void AddedTokens::Split(std::string_view text, std::vector<Part>* parts) const {
  parts->clear();
  size_t plain = 0;  // where the text that is no token began
  for (size_t at = 0; !tokens_.empty() && at < text.size();) {
    if (!begins_[static_cast<uint8_t>(text[at])]) {
      ++at;
      continue;
    }
    const Match match = LongestAt(text, at);
    if (match.bytes == 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[match.token];
    size_t begin = at, end = at + match.bytes;
    at = end;  // a match that is not taken is passed over too, as Hugging Face does
    if (token.single_word && !IsSingleWord(text, begin, end)) continue;
    if (token.lstrip) begin = std::max(SpacesBegin(text, begin), plain);
    if (token.rstrip) end = SpacesEnd(text, end);
    if (plain < begin) parts->push_back({plain, begin, -1});
    // A token of white space that another one has taken with it is none.
    if (begin < end) parts->push_back({begin, end, token.id});
    plain = end;
  }
  if (plain < text.size()) parts->push_back({plain, text.size(), -1});
}

int32_t AddedTokens::Find(std::string_view text) const {
  const Match match = LongestAt(text, 0);
  return match.bytes > 0 && match.bytes == text.size() ? tokens_[match.token].id : -1;
}

}  // namespace atl::coordinator
