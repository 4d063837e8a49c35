#include "coordinator/tokenizer/formats/ranks.h"

#include <array>

#include "coordinator/tokenizer/pipeline.h"
#include "coordinator/tokenizer/scanners.h"

namespace atl::coordinator {
namespace {

constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// Every way to put a token together from two others, all with the token's rank.
void AddMerges(BpeParts* bpe, int32_t id, int32_t rank) {
  const std::string_view token = bpe->vocabulary.Token(id);
  for (size_t cut = 1; cut < token.size(); ++cut) {
    const int32_t left = bpe->vocabulary.Find(token.substr(0, cut));
    const int32_t right = left < 0 ? -1 : bpe->vocabulary.Find(token.substr(cut));
    if (right >= 0) bpe->merges.Put(left, right, {rank, id});
  }
}

}  // namespace

absl::StatusOr<std::string> DecodeBase64(std::string_view text) {
  static const auto values = [] {
    std::array<int8_t, 256> v{};
    v.fill(-1);
    for (size_t i = 0; i < kBase64.size(); ++i) v[static_cast<uint8_t>(kBase64[i])] = static_cast<int8_t>(i);
    return v;
  }();
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  if (text.size() % 4 != 0) return InvalidArgument("\"{}\" is not base64", text);
  std::string bytes;
  uint32_t bits = 0;
  for (size_t i = 0; i < text.size() - padding; ++i) {
    const int8_t value = values[static_cast<uint8_t>(text[i])];
    if (value < 0) return InvalidArgument("\"{}\" is not base64", text);
    bits = bits << 6 | static_cast<uint32_t>(value);
    // 6, 12, 18, 24 bits: a byte is whole after each but the first of four.
    if (i % 4 != 0) bytes += static_cast<char>(bits >> (6 - 2 * (i % 4)) & 0xff);
  }
  return bytes;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeRankedTokenizer(RankedTokens ranked) {
  PipelineParts parts;
  BpeParts bpe;
  bpe.ignore_merges = true;
  if (ranked.first_id < 0 || ranked.first_id > Vocabulary::kMaxId) {
    return InvalidArgument("rank 0 has id {}; ids go from 0 to {}", ranked.first_id, Vocabulary::kMaxId);
  }
  for (const auto& [token, rank] : ranked.tokens) {
    if (token.empty()) return InvalidArgument("the token of rank {} is empty", rank);
    if (rank < 0 || rank > Vocabulary::kMaxId) {
      return InvalidArgument("a rank is {}; ranks go from 0 to {}", rank, Vocabulary::kMaxId);
    }
    ATOLL_RETURN_IF_ERROR(bpe.vocabulary.Add(ranked.first_id + rank, token));
    parts.tokens.Set(static_cast<int32_t>(ranked.first_id + rank), token);
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (bpe.vocabulary.Find(std::string(1, static_cast<char>(byte))) < 0) {
      return InvalidArgument("byte 0x{:02x} has no rank", byte);
    }
  }
  for (const auto& [token, rank] : ranked.tokens) {
    AddMerges(&bpe, static_cast<int32_t>(ranked.first_id + rank), static_cast<int32_t>(rank));
  }
  for (const auto& [text, id, hidden] : ranked.special) {
    if (id < 0 || id > Vocabulary::kMaxId || bpe.vocabulary.Has(static_cast<int32_t>(id))) {
      return InvalidArgument("special token \"{}\" has id {}, which is taken or out of range", text, id);
    }
    ATOLL_RETURN_IF_ERROR(parts.added.Add({.text = text, .id = static_cast<int32_t>(id)}));
    parts.tokens.Set(static_cast<int32_t>(id), text, hidden);
  }
  if (!ranked.bos.empty()) {
    const int32_t bos = parts.added.Find(ranked.bos);
    if (bos < 0) return InvalidArgument("\"{}\", which belongs before a text, is no special token", ranked.bos);
    parts.before.push_back(bos);
  }
  if (ScannerFor({ranked.expression}) != nullptr) {
    ATOLL_RETURN_IF_ERROR(parts.pre_tokenizer.AddIsolating({ranked.expression}, Dialect::kRust));
  } else {  // what it does not match is dropped
    ATOLL_ASSIGN_OR_RETURN(Matcher matcher, Matcher::Regex(ranked.expression, Dialect::kRust));
    parts.pre_tokenizer.AddSplit({std::move(matcher), SplitBehavior::kRemoved, /*invert=*/true});
  }
  ATOLL_ASSIGN_OR_RETURN(Bpe made, Bpe::Make(std::move(bpe)));
  return MakePipeline(std::move(parts), std::move(made));
}

}  // namespace atl::coordinator
