// The serving loop: requests in, streams out. One thread owns all state; everything else posts to it.
//
//   Engine engine(options, tokenizer, executor);        // executor's listener is engine.listener()
//   ATOLL_ASSIGN_OR_RETURN(std::shared_ptr<TokenStream> stream, engine.Submit(request));
//   ... stream->Pop(...) until delta.last() ...
//   engine.Drain(Deadline::After(...)); engine.Stop();
//
// The thread's loop is EngineCore (coordinator/engine/core.h), which knows no clock, thread or socket and is what
// simulations run. Errors of Submit: InvalidArgument (does not fit the context: both numbers), ResourceExhausted (queue
// full), Unavailable (draining).
#pragma once

#include <memory>

#include "coordinator/engine/request.h"
#include "coordinator/engine/stream.h"
#include "coordinator/scheduler/executor.h"
#include "coordinator/scheduler/scheduler.h"
#include "coordinator/tokenizer/tokenizer.h"

namespace atl::coordinator {

struct EngineOptions {
  SchedulerOptions scheduler;
  std::vector<int64_t> eos_ids;
  int64_t vocab = 0;          // ids a prompt may hold; 0: any that are not negative
  int64_t max_positions = 0;  // prompt and emitted tokens together; 0: as many as a group's KV blocks hold
  size_t stream_bound = 256;  // deltas
  int64_t max_queued_requests = 4096;
};

struct EngineStats {
  bool ready = false;  // ranks are up
  uint64_t epoch = 0;
  int64_t running = 0, waiting = 0;
  int64_t free_kv_blocks = 0, kv_blocks = 0;  // over all groups
  int64_t preemptions = 0, restarts = 0, replayed = 0;
  int64_t prompt_tokens = 0, generated_tokens = 0;
  int64_t finished_stop = 0, finished_length = 0, failed = 0, cancelled = 0;
  int64_t steps = 0;
  double step_seconds = 0;           // sum
  double last_recovery_seconds = 0;  // from OnLost to the first result after it
};

class Engine {
 public:
  Engine(EngineOptions options, const Tokenizer* tokenizer, Executor* executor);
  ~Engine();
  ExecutorListener* listener();
  absl::StatusOr<std::shared_ptr<TokenStream>> Submit(Request request);
  EngineStats stats() const;
  // Refuses new requests and waits for the running ones; leftovers end with Unavailable at the deadline.
  absl::Status Drain(Deadline deadline);
  void Stop();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace atl::coordinator
