// The KV blocks of one attention group, and the tables that say which of them hold a sequence.
//
//   BlockManager blocks(count, kv_groups, block_tokens);
//   while (lines are missing) if (!blocks.Extend(&table)) ...;   // one more line of block_tokens positions
//   blocks.Drop(&table, position);                               // what no row from `position` on can read
//   blocks.Give(&table);                                         // all of it; the table is empty after that
//
// A line holds blocks of every KV group of the model (models/spec/kv_layout.h); a group whose layers slide or chunk
// gives its part of a line back once it is out of sight, so a long sequence holds little of it. A block given back may
// be taken by a later plan at once: ranks run plans in order, so a row that is still in flight reads and writes before
// the new owner does. Within one plan it may not: drop before the plan's rows are planned.
#pragma once

#include <cstdint>
#include <vector>

#include "models/spec/kv_layout.h"

namespace atl::coordinator {

struct BlockTable {
  std::vector<int32_t> blocks;   // [lines, blocks of a line]; -1: given back
  std::vector<int64_t> dropped;  // by KV group: lines at the front whose blocks are given back
  int64_t held = 0;              // blocks
};

class BlockManager {
 public:
  BlockManager(int64_t count, std::vector<models::KvGroup> groups, int64_t block_tokens);
  int64_t count() const { return static_cast<int64_t>(owners_.size()); }
  int64_t free() const { return static_cast<int64_t>(free_.size()); }
  int64_t line() const { return line_; }  // blocks of a line
  int64_t Lines(const BlockTable& table) const { return static_cast<int64_t>(table.blocks.size()) / line_; }

  // False, and nothing happens, if fewer than a line's blocks are free.
  bool Extend(BlockTable* table);
  void Drop(BlockTable* table, int64_t position);
  void Give(BlockTable* table);

 private:
  void GiveBlock(int32_t* block);

  const std::vector<models::KvGroup> groups_;
  const int64_t block_tokens_;
  int64_t line_ = 0;
  std::vector<int32_t> free_;    // the last one is taken next
  std::vector<int32_t> owners_;  // [count] tables that hold it
};

}  // namespace atl::coordinator
