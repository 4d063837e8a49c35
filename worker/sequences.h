// What a rank knows of its attention group's sequences, kept up to date by the deltas of step plans.
//
//   ATOLL_RETURN_IF_ERROR(table.Apply(plan));                       // removed, added, new KV blocks
//   ATOLL_RETURN_IF_ERROR(table.Build(plan, &batch));               // rows of this step, ready for Model::Forward
//   table.Emit(id, token);                                          // what the step sampled
//
// The same on every rank of the group. Errors are Internal: the coordinator broke the protocol (an id that is not
// known, a position without token or block).
#pragma once

#include <unordered_map>
#include <vector>

#include "atoll/v1/step.pb.h"
#include "models/model.h"

namespace atl::worker {

struct SequenceState {
  std::vector<int32_t> prompt;
  std::vector<int32_t> emitted;
  std::vector<int32_t> blocks;   // KV blocks [lines of kKvBlockTokens positions, blocks of a line]; -1: given back
  std::vector<int64_t> dropped;  // by KV group: lines at the front that are
  v1::Sampling sampling;
  v1::Output output = v1::OUTPUT_SAMPLE;

  int64_t prompt_length() const { return static_cast<int64_t>(prompt.size()); }
  int64_t length() const { return static_cast<int64_t>(prompt.size() + emitted.size()); }
  int32_t TokenAt(int64_t position) const {
    return position < prompt_length() ? prompt[position] : emitted[position - prompt_length()];
  }
};

// Why the logits of one row are wanted.
struct LogitUse {
  int plan_row = 0;      // index in StepPlan::rows
  bool sample = false;   // choose the token that follows
  bool logits = false;   // return them whole
  int32_t target = -1;   // the prompt's next token, whose log-probability is wanted; -1: none
  int64_t position = 0;  // of the token that follows
};

struct StepBatch {
  std::vector<int32_t> ids;                     // [rows]
  std::vector<models::SequenceRows> sequences;  // [plan.rows]
  std::vector<int32_t> logit_rows;              // ascending
  std::vector<LogitUse> uses;                   // [logit_rows]

  void Clear() {
    ids.clear();
    sequences.clear();
    logit_rows.clear();
    uses.clear();
  }
  models::Batch view() const { return {.ids = ids, .sequences = sequences, .logit_rows = logit_rows}; }
};

class SequenceTable {
 public:
  explicit SequenceTable(models::KvLayout layout) : layout_(std::move(layout)) {}

  absl::Status Apply(const v1::StepPlan& plan);
  // Makes *batch anew, in the memory that it has; it refers to this table until the next Apply.
  absl::Status Build(const v1::StepPlan& plan, StepBatch* batch) const;
  const SequenceState& at(uint64_t id) const { return sequences_.at(id); }
  void Emit(uint64_t id, int32_t token) { sequences_.at(id).emitted.push_back(token); }
  size_t size() const { return sequences_.size(); }

 private:
  absl::Status UpdateBlocks(const v1::StepPlan& plan, const v1::SequenceRows& rows, SequenceState* sequence) const;
  absl::Status CheckRows(const v1::StepPlan& plan, const v1::SequenceRows& rows, const SequenceState& sequence) const;

  const models::KvLayout layout_;
  std::unordered_map<uint64_t, SequenceState> sequences_;
};

}  // namespace atl::worker
