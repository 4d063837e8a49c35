// A step's way between the engine and the leaders of the attention groups: plans out, results back in step order. The
// Executor that the engine is given; which ranks there are is the cluster's business (cluster.h).
//
//   PlanExchange exchange(groups, &service);      // results come from the service's threads
//   exchange.Begin(epoch, listener);              // forgets the epoch before
//   ATOLL_RETURN_IF_ERROR(exchange.AddLeader(stream, hello));
//   if (exchange.complete()) exchange.Open();     // from here on plans of this epoch leave
//   exchange.Close();                             // the leaders are forgotten; no result is delivered after this
//
// Thread-safe. The listener's OnResult is called in the service's threads, one at a time, with the exchange's lock
// held: it hands over and returns.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "coordinator/cluster/control_service.h"
#include "coordinator/scheduler/executor.h"

namespace atl::coordinator {

class PlanExchange final : public Executor {
 public:
  PlanExchange(int groups, ControlService* service) : service_(service), leaders_(groups) {}

  void Execute(std::vector<v1::StepPlan> plans) override;  // the engine's thread
  void OnResult(uint64_t stream, v1::StepResult result);   // the service's threads

  void Begin(uint64_t epoch, ExecutorListener* listener);
  absl::Status AddLeader(uint64_t stream, const v1::LeaderHello& hello);
  bool complete() const;
  void Open();
  void Close();
  std::optional<int> GroupOf(uint64_t stream) const;

 private:
  ControlService* const service_;
  mutable std::mutex mutex_;  // of what follows
  ExecutorListener* listener_ = nullptr;
  uint64_t epoch_ = 0;
  bool open_ = false;
  std::vector<std::optional<uint64_t>> leaders_;             // streams by group
  std::map<uint64_t, std::vector<v1::StepResult>> results_;  // by step, not delivered
  uint64_t step_ = 1;                                        // being delivered
  size_t delivered_ = 0;                                     // groups of step_
};

}  // namespace atl::coordinator
