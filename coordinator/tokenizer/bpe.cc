#include "coordinator/tokenizer/bpe.h"

#include <algorithm>

#include "coordinator/tokenizer/unicode.h"
#include "coordinator/tokenizer/utf8.h"

namespace atl::coordinator {
namespace {

constexpr uint32_t kJointBits = 1 << 20;  // 128 KiB; a collision only costs a cut

uint32_t JointBit(int32_t left, int32_t right) {
  const uint64_t pair = uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  return static_cast<uint32_t>((pair ^ pair >> 31) * 0x9e3779b97f4a7c15u >> 44) & (kJointBits - 1);
}

// Symbols of bytes that must not merge: below the -1 of "none".
int32_t LoneByte(uint8_t byte) { return -2 - byte; }

// The place of the last character of `text`.
size_t LastCharacter(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xc0) == 0x80) --at;
  return at;
}

}  // namespace

absl::StatusOr<Bpe> Bpe::Make(BpeParts parts) {
  const int64_t symbols = parts.vocabulary.size() + static_cast<int64_t>(parts.extra_characters.size());
  absl::Status status;
  parts.merges.ForEach([&](int32_t left, int32_t right, PairTable::Value merge) {
    if (left < symbols && right < symbols && parts.vocabulary.Has(merge.b) && merge.a >= 0) return;
    status = InvalidArgument("a merge of {} and {} to {} is outside of the vocabulary", left, right, merge.b);
  });
  ATOLL_RETURN_IF_ERROR(status);
  if (parts.unknown >= parts.vocabulary.size()) {
    return InvalidArgument("the unknown token {} is outside of the vocabulary", parts.unknown);
  }
  Bpe bpe(std::move(parts));
  bpe.FindUnits();
  if (bpe.parts_.units == BpeUnits::kCharacters) bpe.FindJoints();
  return bpe;
}

// Tokens of one unit.
void Bpe::FindUnits() {
  small_units_.fill(-1);
  const Vocabulary& vocabulary = parts_.vocabulary;
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    const std::string_view token = vocabulary.Token(id);
    if (token.empty()) continue;
    const bool small = parts_.units == BpeUnits::kBytes || static_cast<uint8_t>(token[0]) < 0x80;
    if (small && token.size() == 1) {
      small_units_[static_cast<uint8_t>(token[0])] = id;
    } else if (!small) {
      const Utf8Part first = Utf8At(token, 0);
      if (first.kind == Utf8::kWhole && first.bytes == token.size()) {
        units_.Put(0, static_cast<int32_t>(DecodeUtf8(token.data()).value), {id, 0});
      }
    }
  }
  auto symbol = static_cast<int32_t>(vocabulary.size());
  for (const uint32_t c : parts_.extra_characters) {
    c < 0x80 ? void(small_units_[c] = symbol) : units_.Put(0, static_cast<int32_t>(c), {symbol, 0});
    ++symbol;
  }
}

// Between which units a merge can ever join: the last one of its left part and the first one of its right part.
void Bpe::FindJoints() {
  joints_.assign(kJointBits / 64, 0);
  const Vocabulary& vocabulary = parts_.vocabulary;
  parts_.merges.ForEach([&](int32_t left, int32_t right, PairTable::Value) {
    // What is no token, or a token that is not spelled by its units (a byte's), stands for itself.
    const auto unit = [&](int32_t symbol, bool last) {
      const std::string_view token = vocabulary.Token(symbol);
      if (token.empty() || Utf8End(token, 0) != token.size()) return symbol;
      size_t bytes = 0;
      const int32_t found = Unit(token, last ? LastCharacter(token) : 0, &bytes);
      return found >= 0 ? found : symbol;
    };
    const uint32_t bit = JointBit(unit(left, true), unit(right, false));
    joints_[bit / 64] |= uint64_t{1} << bit % 64;
  });
}

bool Bpe::MayJoin(int32_t left, int32_t right) const {
  const uint32_t bit = JointBit(left, right);
  return (joints_[bit / 64] >> bit % 64 & 1) != 0;
}

int32_t Bpe::Unit(std::string_view text, size_t at, size_t* bytes) const {
  const auto first = static_cast<uint8_t>(text[at]);
  *bytes = 1;
  if (parts_.units == BpeUnits::kBytes || first < 0x80) return small_units_[first];
  const CodePoint c = DecodeUtf8(text.data() + at);
  *bytes = c.bytes;
  const PairTable::Value* found = units_.Find(0, static_cast<int32_t>(c.value));
  return found != nullptr ? found->a : -1;
}

void Bpe::Encode(std::string_view piece, const char* readable_end, Memory* memory, std::vector<int32_t>* ids) const {
  if (parts_.units == BpeUnits::kBytes) return EncodeWord(piece, readable_end, memory, ids);
  if (parts_.ignore_merges) {
    if (const int32_t whole = parts_.vocabulary.Find(piece); whole >= 0) return ids->push_back(whole);
  }
  EncodeCutting(piece, readable_end, memory, ids);
}

void Bpe::EncodeCutting(std::string_view piece, const char* readable_end, Memory* memory,
                        std::vector<int32_t>* ids) const {
  int32_t previous = -1;
  size_t begin = 0;
  for (size_t at = 0, bytes = 0; at < piece.size(); at += bytes) {
    const int32_t unit = Unit(piece, at, &bytes);
    // Units that are no tokens are never cut off: runs of them, and what their neighbours merge with, need the whole.
    if (previous >= 0 && unit >= 0 && !MayJoin(previous, unit)) {
      EncodeWord(piece.substr(begin, at - begin), readable_end, memory, ids);
      begin = at;
    }
    previous = unit;
  }
  if (begin < piece.size()) EncodeWord(piece.substr(begin), readable_end, memory, ids);
}

void Bpe::EncodeWord(std::string_view word, const char* readable_end, Memory* memory, std::vector<int32_t>* ids) const {
  WordCache::Key key;
  const bool cached = WordCache::MakeKey(word, readable_end, &key);
  if (cached) {
    if (const WordCache::Entry* hit = memory->words.Find(key)) {
      ids->insert(ids->end(), hit->ids.begin(), hit->ids.begin() + hit->count);
      return;
    }
  }
  const size_t before = ids->size();
  Merge(word, memory, ids);
  if (cached) memory->words.Put(key, std::span(*ids).subspan(before));
}

void Bpe::Merge(std::string_view word, Memory* memory, std::vector<int32_t>* ids) const {
  if (parts_.ignore_merges && parts_.units == BpeUnits::kBytes) {
    if (const int32_t whole = parts_.vocabulary.Find(word); whole >= 0) return ids->push_back(whole);
  }
  std::vector<int32_t>& symbols = memory->symbols;
  symbols.clear();
  PushUnits(word, &symbols);
  const size_t count = MergeSymbols(parts_.merges, symbols.data(), symbols.size(), &memory->merge);
  for (size_t i = 0; i < count; ++i) PushSymbol(symbols[i], ids);
}

// As Hugging Face does it, to the last detail: an unknown token waits for the next unit that is a token, or the end, so
// bytes may overtake it.
void Bpe::PushUnits(std::string_view word, std::vector<int32_t>* symbols) const {
  bool pending = false;
  for (size_t at = 0, bytes = 0; at < word.size(); at += bytes) {
    const int32_t unit = Unit(word, at, &bytes);
    if (unit >= 0) {
      if (pending) symbols->push_back(parts_.unknown);
      pending = false;
      symbols->push_back(unit);
    } else if (!PushBytes(word.substr(at, bytes), symbols) && parts_.unknown >= 0) {
      if (pending && !parts_.fuse_unknown) symbols->push_back(parts_.unknown);
      pending = true;
    }
  }
  if (pending) symbols->push_back(parts_.unknown);
}

// The tokens of a unit's bytes; false: one of them is missing.
bool Bpe::PushBytes(std::string_view unit, std::vector<int32_t>* symbols) const {
  const auto token = [&](char byte) { return parts_.byte_tokens[static_cast<uint8_t>(byte)]; };
  if (!std::all_of(unit.begin(), unit.end(), [&](char byte) { return token(byte) >= 0; })) return false;
  for (const char byte : unit) {
    symbols->push_back(parts_.bytes_never_merge ? LoneByte(static_cast<uint8_t>(byte)) : token(byte));
  }
  return true;
}

void Bpe::PushSymbol(int32_t symbol, std::vector<int32_t>* ids) const {
  if (symbol >= 0 && symbol < parts_.vocabulary.size()) return ids->push_back(symbol);
  if (symbol < 0) return EncodeByte(static_cast<uint8_t>(-2 - symbol), ids);
  std::string character;
  AppendUtf8(parts_.extra_characters[symbol - parts_.vocabulary.size()], &character);
  for (const char byte : character) EncodeByte(static_cast<uint8_t>(byte), ids);
}

void Bpe::EncodeByte(uint8_t byte, std::vector<int32_t>* ids) const {
  int32_t id = parts_.units == BpeUnits::kBytes ? small_units_[byte] : parts_.byte_tokens[byte];
  if (id < 0) id = parts_.unknown;
  if (id >= 0) ids->push_back(id);
}

}  // namespace atl::coordinator
