// What the scheduler knows of one sequence. Its tokens are prompt, emitted, and samples whose results are on their way;
// `position` is the next row to plan. A prompt, a replay and a decode step differ only in how many rows are missing.
#pragma once

#include <algorithm>
#include <vector>

#include "coordinator/scheduler/block_manager.h"
#include "coordinator/scheduler/scheduler.h"

namespace atl::coordinator {

struct SequenceState {
  Sequence spec;
  uint64_t order = 0;            // of arrival
  std::vector<int32_t> emitted;  // results that have come
  int64_t rows_done = 0;         // positions whose outputs have come, in any epoch: never delivered twice
  bool paused = false;
  int crashes = 0;  // epochs lost while it was in flight

  // Of its present run; starts again from nothing after a preemption or a lost epoch.
  int group = -1;        // -1: waiting
  int64_t position = 0;  // next row to plan
  BlockTable table;
  int64_t samples_ahead = 0;  // planned, result not here; they survive a preemption, not a lost epoch
  int64_t steps_ahead = 0;    // steps in flight with rows of it
  uint64_t last_step = 0;     // planned in this epoch

  bool running() const { return group >= 0; }
  int64_t prompt() const { return static_cast<int64_t>(spec.prompt_ids.size()); }
  int64_t length() const { return prompt() + static_cast<int64_t>(emitted.size()) + samples_ahead; }
  // The last token's own row never runs: nothing follows it.
  int64_t max_rows() const { return prompt() + std::max<int64_t>(spec.max_tokens - 1, 0); }
  int64_t rows_missing() const { return length() - position; }
  bool WantsRows() const {
    if (spec.max_tokens > 0) return length() < prompt() + spec.max_tokens;
    return std::max(position, rows_done) < prompt();
  }
};

}  // namespace atl::coordinator
