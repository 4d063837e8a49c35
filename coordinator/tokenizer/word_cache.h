// What short pieces of text encode to, as they were last seen: a table of fixed size, one place for a piece, the newest
// one stays. Not shared between threads.
//
//   WordCache cache;
//   WordCache::Key key;
//   if (WordCache::MakeKey(piece, readable_end, &key)) {
//     if (const WordCache::Entry* hit = cache.Find(key)) ... hit->ids[0 .. hit->count)
//     else cache.Put(key, ids);
//   }
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace atl::coordinator {

class WordCache {
 public:
  static constexpr size_t kMaxBytes = 31, kMaxIds = 7, kEntries = 1 << 15;  // 2 MiB

  using Key = std::array<uint64_t, 4>;  // the bytes, zeros, and their number in the last byte
  struct Entry {
    Key key{};  // all zero: free (a piece has a byte)
    int32_t count = 0;
    std::array<int32_t, kMaxIds> ids{};
  };
  static_assert(sizeof(Entry) == 64, "a cache line");

  WordCache() : entries_(kEntries) {}

  // False: the piece is too long, or empty. Up to `readable_end` memory may be read.
  static bool MakeKey(std::string_view piece, const char* readable_end, Key* key) {
    if (piece.empty() || piece.size() > kMaxBytes) return false;
    if (readable_end - piece.data() >= 32) {
      std::memcpy(key->data(), piece.data(), 32);
      const size_t whole = piece.size() / 8;
      (*key)[whole] &= (uint64_t{1} << (8 * (piece.size() % 8))) - 1;
      for (size_t i = whole + 1; i < 4; ++i) (*key)[i] = 0;
    } else {
      key->fill(0);
      std::memcpy(key->data(), piece.data(), piece.size());
    }
    (*key)[3] |= uint64_t{piece.size()} << 56;
    return true;
  }
  const Entry* Find(const Key& key) const {
    const Entry& entry = entries_[Place(key)];
    return entry.key == key ? &entry : nullptr;
  }
  void Put(const Key& key, std::span<const int32_t> ids) {
    if (ids.size() > kMaxIds) return;
    Entry& entry = entries_[Place(key)];
    entry.key = key;
    entry.count = static_cast<int32_t>(ids.size());
    std::copy(ids.begin(), ids.end(), entry.ids.begin());
  }

 private:
  static size_t Place(const Key& key) {
    uint64_t hash = (key[0] ^ key[3] * 0xc4ceb9fe1a85ec53u) * 0x9e3779b97f4a7c15u;
    hash = (hash ^ hash >> 32 ^ key[1]) * 0xff51afd7ed558ccdu;
    hash = (hash ^ hash >> 32 ^ key[2]) * 0xff51afd7ed558ccdu;
    return (hash >> 40) & (kEntries - 1);
  }
  std::vector<Entry> entries_;
};

}  // namespace atl::coordinator
