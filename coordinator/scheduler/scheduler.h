// Plans steps: continuous batching, chunked prompts, paged KV blocks, preemption, replay. Pure arithmetic: no clock, no
// socket, no tensor, no randomness. Not thread-safe.
//
//   Scheduler scheduler(options);
//   scheduler.Reset(epoch);                                  // ranks are up and know nothing
//   scheduler.Add(sequence);                                 // places it on the attention group with the most room
//   while (std::optional<std::vector<v1::StepPlan>> plans = scheduler.PlanStep()) executor.Execute(*plans);
//   for (const Emitted& e : scheduler.OnResult(result)) ...; // tokens of sequences that still exist, in order
//   scheduler.Remove(id);                                    // finished or cancelled: the next plan may use its blocks
//
// Order: first come, first served. Running sequences get their row first, the rest of the token budget goes to prompts,
// in chunks. When blocks run out the youngest sequence of the group gives all of its up and is run again later from
// prompt and emitted tokens: the same tokens come out (law 4). A sequence whose request was in flight when an epoch was
// lost counts a crash; at its second it runs alone (nothing else is planned until it has emitted or finished), at the
// third it is given up (TakeFailed) and the others live (law 6). A step counts as in flight from PlanStep until every
// group's result has come; at most options.max_steps_in_flight are.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "atoll/v1/step.pb.h"
#include "models/spec/kv_layout.h"
#include "parallel/base/status.h"

namespace atl::coordinator {

struct SchedulerOptions {
  int groups = 1;
  int64_t kv_blocks = 0;  // of each group
  int64_t kv_block_tokens = 64;
  std::vector<models::KvGroup> kv_groups = {models::KvGroup()};  // of the model: which layers keep what
  int64_t max_batch_tokens = 512;                                // rows of one group's step
  int64_t max_prompt_chunk = 0;  // rows of one sequence in one step; 0: the budget is the only bound
  int64_t max_sequences = 256;   // running in one group
  int max_steps_in_flight = 2;
};

struct Sequence {
  uint64_t id = 0;
  std::vector<int32_t> prompt_ids;
  int64_t max_tokens = 0;  // stops planning rows beyond this; the caller decides what "finished" means
  v1::Sampling sampling;
  v1::Output output = v1::OUTPUT_SAMPLE;
};

// What a step brought for one sequence.
struct Emitted {
  uint64_t id = 0;
  v1::SequenceOutput output;
  bool prompt_done = false;  // all prompt rows have run (scoring requests with max_tokens 0 end here)
};

struct SchedulerStats {
  int64_t running = 0, waiting = 0, paused = 0;
  int64_t free_blocks = 0, blocks = 0;
  int64_t preemptions = 0;
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);
  ~Scheduler();

  // InvalidArgument if it can never run: prompt + max_tokens need more blocks at a time than a group has (both
  // numbers).
  absl::Status Add(Sequence sequence);
  void Remove(uint64_t id);
  void Pause(uint64_t id);  // keeps its blocks, gets no rows; may be preempted
  void Resume(uint64_t id);

  std::optional<std::vector<v1::StepPlan>> PlanStep();
  std::vector<Emitted> OnResult(const v1::StepResult& result);

  // The ranks of `epoch` are up and know nothing; every sequence starts again from prompt and emitted tokens.
  void Reset(uint64_t epoch);
  // The epoch is lost: counts crashes of the sequences in flight. Nothing is planned until Reset.
  void Lost();
  std::vector<uint64_t> TakeFailed();  // sequences given up since the last call

  SchedulerStats stats() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace atl::coordinator
