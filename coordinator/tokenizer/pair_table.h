// A flat hash table from a pair of numbers to two numbers: merges by their parts, edges of a trie by node and byte.
// Sixteen bytes an entry, linear probing, at most half full: a look-up that finds nothing touches one cache line.
//
//   PairTable table;  table.Put(left, right, {rank, merged});
//   if (const PairTable::Value* value = table.Find(left, right)) ...
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace atl::coordinator {

class PairTable {
 public:
  struct Value {
    int32_t a, b;
  };
  PairTable() : entries_(16, Entry{kFree, {}}) {}

  // Neither number is negative. A pair that is there keeps its value unless `replace`.
  void Put(int32_t first, int32_t second, Value value, bool replace = true) {
    if (2 * (count_ + 1) > entries_.size()) Grow();
    Entry& entry = entries_[Place(Key(first, second))];
    if (entry.key == kFree) {
      ++count_;
      entry = {Key(first, second), value};
    } else if (replace) {
      entry.value = value;
    }
  }
  const Value* Find(int32_t first, int32_t second) const {
    const Entry& entry = entries_[Place(Key(first, second))];
    return entry.key == kFree ? nullptr : &entry.value;
  }
  size_t size() const { return count_; }
  template <typename F>  // visit(first, second, value), in no order
  void ForEach(const F& visit) const {
    for (const Entry& entry : entries_) {
      if (entry.key != kFree) {
        visit(static_cast<int32_t>(entry.key >> 32), static_cast<int32_t>(entry.key & UINT32_MAX), entry.value);
      }
    }
  }

 private:
  static constexpr uint64_t kFree = UINT64_MAX;  // no pair: its numbers would be negative
  struct Entry {
    uint64_t key;
    Value value;
  };
  static uint64_t Key(int32_t first, int32_t second) {
    return uint64_t{static_cast<uint32_t>(first)} << 32 | static_cast<uint32_t>(second);
  }
  size_t Place(uint64_t key) const {  // where the key is, or where it would be put
    const uint64_t mixed = (key ^ key >> 29) * 0x9e3779b97f4a7c15u;
    size_t at = (mixed ^ mixed >> 32) & (entries_.size() - 1);
    while (entries_[at].key != kFree && entries_[at].key != key) at = (at + 1) & (entries_.size() - 1);
    return at;
  }
  void Grow() {
    std::vector<Entry> old(2 * entries_.size(), Entry{kFree, {}});
    old.swap(entries_);
    for (const Entry& entry : old) {
      if (entry.key != kFree) entries_[Place(entry.key)] = entry;
    }
  }

  std::vector<Entry> entries_;  // a power of two
  size_t count_ = 0;
};

}  // namespace atl::coordinator
