// Ranks without tensors, under a virtual clock: they follow step plans exactly as strictly as real ones and "sample" a
// hash of everything that came before, so a lost, doubled or misplaced token changes all that follow.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <set>

#include "coordinator/scheduler/executor.h"
#include "models/spec/kv_layout.h"

namespace atl::coordinator {

inline uint64_t Mix(uint64_t h, uint64_t v) {
  h = (h ^ v) * 0x9E3779B97F4A7C15ull;
  return h ^ (h >> 29);
}

// The token that follows `tokens`.
inline int32_t NextToken(uint64_t seed, const std::vector<int32_t>& tokens, int vocab) {
  uint64_t hash = Mix(seed, tokens.size());
  for (const int32_t token : tokens) hash = Mix(hash, static_cast<uint64_t>(token));
  return static_cast<int32_t>(hash % static_cast<uint64_t>(vocab));
}

// One attention group's memory: what is in each KV slot, too, so a block shared by two sequences, or given back while a
// row could still read it, shows.
class FakeGroup {
 public:
  FakeGroup(int64_t blocks, int64_t block_tokens, int64_t max_rows, int vocab,
            std::vector<models::KvGroup> groups = {models::KvGroup()})
      : block_tokens_(block_tokens),
        max_rows_(max_rows),
        vocab_(vocab),
        groups_(std::move(groups)),
        kv_(blocks * block_tokens) {
    for (const models::KvGroup& group : groups_) line_ += group.blocks;
  }

  v1::StepResult Run(const v1::StepPlan& plan) {
    v1::StepResult result;
    result.set_epoch(plan.epoch());
    result.set_step(plan.step());
    result.set_group(plan.group());
    EXPECT_EQ(plan.step(), ++last_step_);
    for (const uint64_t id : plan.removed()) EXPECT_EQ(sequences_.erase(id), 1u) << "removes unknown " << id;
    for (const v1::NewSequence& added : plan.added()) {
      Known& known = sequences_[added.id()];
      EXPECT_TRUE(known.tokens.empty()) << "adds twice " << added.id();
      known.tokens.assign(added.prompt_ids().begin(), added.prompt_ids().end());
      known.prompt = static_cast<int64_t>(known.tokens.size());
      known.tokens.insert(known.tokens.end(), added.emitted_ids().begin(), added.emitted_ids().end());
      known.seed = added.sampling().seed();
      known.output = added.output();
    }
    int64_t rows = 0;
    std::set<uint64_t> seen;
    for (const v1::SequenceRows& row : plan.rows()) {
      EXPECT_TRUE(seen.insert(row.id()).second) << "two rows entries of " << row.id();
      rows += row.rows();
      RunRows(row, result.add_outputs());
    }
    EXPECT_LE(rows, max_rows_);
    CheckBlocksAreNotShared();
    return result;
  }
  int64_t rows_run() const { return rows_run_; }
  size_t most_blocks() const { return most_blocks_; }  // held at a time so far

 private:
  struct Known {
    std::vector<int32_t> tokens;
    int64_t prompt = 0;
    int64_t position = 0;
    std::vector<int32_t> blocks;
    uint64_t seed = 0;
    v1::Output output = v1::OUTPUT_SAMPLE;
  };

  void RunRows(const v1::SequenceRows& row, v1::SequenceOutput* output) {
    output->set_id(row.id());
    ASSERT_TRUE(sequences_.count(row.id())) << "rows of unknown " << row.id();
    Known& known = sequences_[row.id()];
    known.blocks.insert(known.blocks.end(), row.new_blocks().begin(), row.new_blocks().end());
    DropBlocks(row, &known);
    const int64_t end = row.position() + row.rows();
    ASSERT_GT(row.rows(), 0);
    ASSERT_EQ(row.position(), known.position) << "positions are not contiguous";
    ASSERT_LE(end, static_cast<int64_t>(known.tokens.size()));
    ASSERT_EQ(known.blocks.size() % line_, 0u);
    ASSERT_LE(end, static_cast<int64_t>(known.blocks.size()) / line_ * block_tokens_)
        << "blocks do not cover positions";
    for (int64_t p = row.position(); p < end; ++p) {
      for (int64_t column = 0; column < line_; ++column) Slot(known, p, column) = {row.id(), p, known.tokens[p]};
      ++rows_run_;
      if (known.output == v1::OUTPUT_LOGITS) output->mutable_logits()->append(LogitsOf(row.id(), p));
      if (known.output == v1::OUTPUT_TARGET_LOGPROBS && p + 1 < known.prompt) {
        output->add_target_logprobs(static_cast<float>(p + 1));
      }
    }
    known.position = end;
    // The token is a function of what the cache holds where it must hold something, not of what the table says.
    std::vector<int32_t> cached(known.tokens.begin(), known.tokens.begin() + end);
    int64_t column = 0;
    for (const models::KvGroup& group : groups_) {
      for (int64_t last = column + group.blocks; column < last; ++column) {
        for (int64_t p = group.FirstVisible(row.position()); p < end; ++p) {
          ASSERT_EQ(Slot(known, p, column).id, row.id()) << "position " << p << " was overwritten";
          ASSERT_EQ(Slot(known, p, column).position, p);
          cached[p] = Slot(known, p, column).token;
        }
      }
    }
    if (!row.sample()) return;
    ASSERT_EQ(end, static_cast<int64_t>(known.tokens.size())) << "samples what is known";
    known.tokens.push_back(NextToken(known.seed, cached, vocab_));
    output->set_first_position(static_cast<int32_t>(end));
    output->add_tokens(known.tokens.back());
    output->add_logprobs(-1);
  }

 public:
  static std::string LogitsOf(uint64_t id, int64_t position) {
    return std::string(1, static_cast<char>('a' + id % 26)) + std::string(1, static_cast<char>('A' + position % 26));
  }

 private:
  struct KvSlot {
    uint64_t id = 0;
    int64_t position = -1;
    int32_t token = 0;
  };
  KvSlot& Slot(const Known& known, int64_t position, int64_t column) {
    return kv_.at(known.blocks[position / block_tokens_ * line_ + column] * block_tokens_ + position % block_tokens_);
  }
  void DropBlocks(const v1::SequenceRows& row, Known* known) {
    if (row.dropped_size() == 0) return;
    ASSERT_EQ(row.dropped_size(), static_cast<int>(groups_.size()));
    int64_t column = 0;
    for (size_t g = 0; g < groups_.size(); column += groups_[g++].blocks) {
      EXPECT_LE(row.dropped(g) * block_tokens_, groups_[g].FirstVisible(row.position())) << "drops what is still seen";
      for (int64_t line = 0; line < row.dropped(g); ++line) {
        std::fill_n(known->blocks.begin() + line * line_ + column, groups_[g].blocks, -1);
      }
    }
  }
  // What a sequence's next row can see is its own. A rank learns what else was given back with the next rows.
  void CheckBlocksAreNotShared() {
    std::set<int32_t> used;
    for (const auto& [id, known] : sequences_) {
      const int64_t lines = static_cast<int64_t>(known.blocks.size()) / line_;
      int64_t column = 0;
      for (const models::KvGroup& group : groups_) {
        for (int64_t last = column + group.blocks; column < last; ++column) {
          for (int64_t line = group.FirstVisible(known.position) / block_tokens_; line < lines; ++line) {
            const int32_t block = known.blocks[line * line_ + column];
            EXPECT_TRUE(block >= 0 && used.insert(block).second) << "block " << block << " twice";
          }
        }
      }
    }
    most_blocks_ = std::max(most_blocks_, used.size());
  }

  int64_t block_tokens_, max_rows_;
  int vocab_;
  std::vector<models::KvGroup> groups_;
  int64_t line_ = 0;
  std::vector<KvSlot> kv_;
  std::map<uint64_t, Known> sequences_;
  uint64_t last_step_ = 0;
  int64_t rows_run_ = 0;
  size_t most_blocks_ = 0;
};

}  // namespace atl::coordinator
