#include "coordinator/scheduler/block_manager.h"

#include <algorithm>

#include "parallel/base/status.h"

namespace atl::coordinator {

BlockManager::BlockManager(int64_t count, std::vector<models::KvGroup> groups, int64_t block_tokens)
    : groups_(std::move(groups)), block_tokens_(block_tokens), owners_(count) {
  for (int64_t block = count - 1; block >= 0; --block) free_.push_back(static_cast<int32_t>(block));
  for (const models::KvGroup& group : groups_) line_ += group.blocks;
}

bool BlockManager::Extend(BlockTable* table) {
  if (free() < line_) return false;
  table->dropped.resize(groups_.size());
  for (int64_t i = 0; i < line_; ++i) {
    const int32_t block = free_.back();
    free_.pop_back();
    ++owners_[block];
    table->blocks.push_back(block);
  }
  table->held += line_;
  return true;
}

void BlockManager::Drop(BlockTable* table, int64_t position) {
  int64_t column = 0;
  for (size_t g = 0; g < table->dropped.size(); ++g) {
    const int64_t out_of_sight = std::min(groups_[g].FirstVisible(position) / block_tokens_, Lines(*table));
    for (int64_t& dropped = table->dropped[g]; dropped < out_of_sight; ++dropped) {
      for (int64_t i = 0; i < groups_[g].blocks; ++i) GiveBlock(&table->blocks[dropped * line_ + column + i]);
      table->held -= groups_[g].blocks;
    }
    column += groups_[g].blocks;
  }
}

void BlockManager::Give(BlockTable* table) {
  for (; !table->blocks.empty(); table->blocks.pop_back()) {
    if (table->blocks.back() >= 0) GiveBlock(&table->blocks.back());
  }
  *table = {};
}

void BlockManager::GiveBlock(int32_t* block) {
  ATOLL_CHECK(owners_[*block] > 0, "KV block {} of {} is given back, but nobody holds it", *block, count());
  if (--owners_[*block] == 0) free_.push_back(*block);
  *block = -1;
}

}  // namespace atl::coordinator
