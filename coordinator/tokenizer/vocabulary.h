// Tokens by id and ids by token. Ids may have holes; a token is any bytes, also none.
//
//   Vocabulary words;  ATOLL_RETURN_IF_ERROR(words.Add(17, "the"));
//   words.Find("the") == 17;  words.Token(17) == "the";
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/base/status.h"

namespace atl::coordinator {

class Vocabulary {
 public:
  static constexpr int64_t kMaxId = (1 << 22) - 1;  // a bound for lying files; published ones stay below 2^19

  // InvalidArgument: an id out of range or taken, or a token that has an id already.
  absl::Status Add(int64_t id, std::string_view token);
  void ExtendTo(int64_t size) {  // ids below it that are not added are holes
    if (size > this->size()) words_.resize(size);
  }
  int32_t Find(std::string_view token) const;  // -1: none
  std::string_view Token(int32_t id) const;    // empty for an id that is none
  bool Has(int32_t id) const { return id >= 0 && id < size() && words_[id].begin != kNone; }
  int64_t size() const { return static_cast<int64_t>(words_.size()); }  // ids 0..size-1
  int64_t count() const { return count_; }                              // less the holes

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Word {
    uint32_t begin = kNone, bytes = 0;  // in text_
  };
  struct Slot {
    uint32_t hash = 0;
    int32_t id = -1;  // -1: free
  };
  size_t Place(std::string_view token, uint64_t hash) const;  // where it is, or where it would be put
  void Grow();

  std::string text_;
  std::vector<Word> words_;
  std::vector<Slot> slots_{16};  // a power of two, at most half full
  int64_t count_ = 0;
};

// Of bytes; differs between builds.
uint64_t HashBytes(std::string_view bytes);

}  // namespace atl::coordinator
