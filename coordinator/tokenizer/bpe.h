// Byte-pair encoding of one piece of text: its units (bytes or characters) become tokens, and neighbours are merged.
//
//   BpeParts parts;  ...vocabulary, merges...
//   ATOLL_ASSIGN_OR_RETURN(const Bpe bpe, Bpe::Make(std::move(parts)));
//   Bpe::Memory memory;                       // one for each thread; keeps what words encode to
//   bpe.Encode(piece, readable_end, &memory, &ids);
//
// Linear in practice: short pieces come from the cache or are merged on the stack; a long text of characters is first
// cut where no merge can ever join, which never changes the result and makes words of it where words are.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/tokenizer/merge.h"
#include "coordinator/tokenizer/vocabulary.h"
#include "coordinator/tokenizer/word_cache.h"

namespace atl::coordinator {

enum class BpeUnits { kBytes, kCharacters };

struct BpeParts {
  BpeUnits units = BpeUnits::kBytes;
  Vocabulary vocabulary;       // tokens as the bytes (or the characters) they are made of
  PairTable merges;            // (left id, right id) -> {rank, id of the merged token}
  bool ignore_merges = false;  // a piece that is a token as a whole is that token
  // A unit that is no token: its bytes' tokens if they all exist, else the unknown token if there is one, else nothing.
  std::array<int32_t, 256> byte_tokens = NoBytes();  // -1: none
  int32_t unknown = -1;
  bool fuse_unknown = false;  // a run of unknown units is one token
  // SentencePiece merges characters that are no tokens when their union is one. Such a character has an id from
  // vocabulary.size() on in `merges` and, where it is left over, becomes its bytes' tokens.
  std::vector<uint32_t> extra_characters;
  bool bytes_never_merge = false;  // SentencePiece: byte tokens come last, whatever merges say

  static constexpr std::array<int32_t, 256> NoBytes() {
    std::array<int32_t, 256> none{};
    none.fill(-1);
    return none;
  }
};

class Bpe {
 public:
  struct Memory {
    WordCache words;
    MergeMemory merge;
    std::vector<int32_t> symbols;
  };
  static absl::StatusOr<Bpe> Make(BpeParts parts);

  // `piece` is UTF-8 where units are characters. Memory behind it may be read up to `readable_end`.
  void Encode(std::string_view piece, const char* readable_end, Memory* memory, std::vector<int32_t>* ids) const;
  // A byte that is no part of a character.
  void EncodeByte(uint8_t byte, std::vector<int32_t>* ids) const;
  const Vocabulary& vocabulary() const { return parts_.vocabulary; }

 private:
  explicit Bpe(BpeParts parts) : parts_(std::move(parts)) {}
  void FindUnits();
  void FindJoints();
  int32_t Unit(std::string_view text, size_t at, size_t* bytes) const;  // its symbol, -1: it is no token
  bool MayJoin(int32_t left, int32_t right) const;
  void EncodeCutting(std::string_view piece, const char* readable_end, Memory* memory, std::vector<int32_t>* ids) const;
  void EncodeWord(std::string_view word, const char* readable_end, Memory* memory, std::vector<int32_t>* ids) const;
  void Merge(std::string_view word, Memory* memory, std::vector<int32_t>* ids) const;
  void PushUnits(std::string_view word, std::vector<int32_t>* symbols) const;
  bool PushBytes(std::string_view unit, std::vector<int32_t>* symbols) const;
  void PushSymbol(int32_t symbol, std::vector<int32_t>* ids) const;

  BpeParts parts_;
  std::array<int32_t, 256> small_units_{};  // [byte], or ASCII characters; -1: no token
  PairTable units_;                         // (0, character) -> symbol, beyond ASCII
  std::vector<uint64_t> joints_;            // bits, by hash of (last unit, first unit) of what merges join
};

}  // namespace atl::coordinator
