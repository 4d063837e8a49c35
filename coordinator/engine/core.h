// What the engine does, as plain calls: no thread, clock or socket inside. Engine runs it in one thread, simulations
// and tests under a virtual clock.
//
//   EngineCore core(options, tokenizer, executor);
//   ATOLL_RETURN_IF_ERROR(core.Validate(request));
//   core.Submit(std::move(request), stream);                     // stream->id() names it from here on
//   core.OnReady(epoch); core.OnResult(result, now); ...
//   core.Pump();                                                 // after any of these: plans and executes what it can
//
// Whoever cannot go on ends with a delta that carries a status; nothing here waits. `now` is seconds on any clock.
#pragma once

#include <unordered_map>

#include "coordinator/engine/engine.h"
#include "coordinator/engine/generation.h"

namespace atl::coordinator {

class EngineCore {
 public:
  EngineCore(EngineOptions options, const Tokenizer* tokenizer, Executor* executor);

  absl::Status Validate(const Request& request) const;  // thread-safe

  void Submit(Request request, std::shared_ptr<TokenStream> stream);
  void Cancel(uint64_t id);   // the reader is gone
  void OnSpace(uint64_t id);  // the reader caught up
  void EndAll(const absl::Status& status);

  void OnReady(uint64_t epoch);
  void OnResult(const v1::StepResult& result, double now);
  void OnLost(uint64_t epoch, const std::string& reason, double now);
  void Pump();

  EngineStats stats() const;
  bool idle() const { return live_.empty(); }

 private:
  struct Live {
    Generation generation;
    std::shared_ptr<TokenStream> stream;
    bool prompt_counted = false;
  };

  void End(uint64_t id, const absl::Status& status);

  const EngineOptions options_;
  const Tokenizer* const tokenizer_;
  Executor* const executor_;
  Scheduler scheduler_;
  std::unordered_map<uint64_t, Live> live_;
  EngineStats stats_;  // counters; the rest is asked of the scheduler
  std::optional<double> lost_at_;
};

}  // namespace atl::coordinator
