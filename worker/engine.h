// The step loop of one rank: plan in, batch, forward, sample, result out.
//
//   Engine engine(options, model, context, &status);
//   absl::Status end = engine.Run(port);        // port: the leader's line to the coordinator; null on other ranks
//   // OK: told to stop. Anything else: this epoch is over, report it and leave by _exit.
//
// Every rank of the world runs the same steps, with or without rows. The leader of a tensor-parallel group (its rank 0)
// hands each plan to its group; while there is none it broadcasts an idle tick, so that no follower's wait outlives its
// deadline. Sampling happens where a row's logits are at home; the sampled ids go to the whole group, because the next
// plan may continue from them before the coordinator has seen them.
// Errors: those of the communicators and of Model::Forward, with the step; Internal for a plan that cannot be.
#pragma once

#include <atomic>
#include <optional>

#include "parallel/communicator.h"
#include "parallel/context.h"
#include "worker/sampler.h"
#include "worker/sequences.h"
#include "worker/top_logprobs.h"

namespace atl::worker {

// What the leader is told next.
struct Order {
  enum class Kind { kIdle, kPlan, kStop };
  Kind kind = Kind::kIdle;
  v1::StepPlan plan;
};

class LeaderPort {
 public:
  virtual ~LeaderPort() = default;
  virtual Order Next(Seconds wait) = 0;  // kIdle after `wait` without a plan
  virtual void Send(v1::StepResult result) = 0;
};

// Where the engine is, for heartbeats: read from other threads.
struct EngineStatus {
  std::atomic<uint64_t> step{0};
  std::atomic<const char*> phase{"starting"};
};

struct EngineOptions {
  uint64_t epoch = 0;
  int64_t sample_vocab = 0;  // ids from here on are never sampled
};

class Engine {
 public:
  Engine(const EngineOptions& options, models::Model& model, const parallel::ParallelContext& context,
         EngineStatus* status)
      : options_(options),
        model_(model),
        context_(context),
        status_(status),
        sequences_(models::KvLayoutOf(model.spec())) {}

  absl::Status Run(LeaderPort* port);
  // One step; every rank of the world with its group's plan. The result, made anew, is complete on leaders. A step like
  // one before allocates nothing, but for what the plan brings: sequences, their blocks.
  absl::Status Step(const v1::StepPlan& plan, v1::StepResult* result);

 private:
  // What the home of one logit row found out.
  struct RowOutcome {
    int32_t token = 0;
    float logprob = 0;
    float target_logprob = 0;
  };

  absl::StatusOr<Order> NextOrder(LeaderPort* port);
  absl::Status Broadcast(Buffer buffer, Seconds budget);
  absl::Status Sample(const v1::StepPlan& plan, const models::LogitRows& logits);
  void Conclude(const v1::StepPlan& plan, const std::vector<float>& logits, v1::StepResult* result);

  const EngineOptions options_;
  models::Model& model_;
  const parallel::ParallelContext context_;
  EngineStatus* const status_;
  SequenceTable sequences_;
  uint64_t last_step_ = 0;
  // Of one step: each makes them anew, in the memory that they have.
  StepBatch batch_;
  std::vector<RowOutcome> outcomes_;  // [rows of batch_.uses]
  TopRows top_;
};

}  // namespace atl::worker
