// A cluster and its engine, from launch to orderly end, for one command.
//
//   ATOLL_ASSIGN_OR_RETURN(auto running, RunningCluster::Create(cluster_options, engine_options, tokenizer));
//   running->Launch();                               // the ranks are started
//   ATOLL_RETURN_IF_ERROR(running->WaitReady());     // logs progress
//   running->engine().Submit(...)
//
// Destruction stops the engine, then the ranks.
#pragma once

#include <functional>
#include <memory>

#include "coordinator/cluster/cluster.h"
#include "coordinator/engine/engine.h"

namespace atl::coordinator {

class RunningCluster {
 public:
  static absl::StatusOr<std::unique_ptr<RunningCluster>> Create(const ClusterOptions& cluster, EngineOptions engine,
                                                                const Tokenizer* tokenizer);
  ~RunningCluster();
  // `listener` stands between the ranks and the engine, which it must pass everything on to.
  void Launch(ExecutorListener* listener = nullptr);
  // Until all ranks have loaded; Unavailable when the cluster gave up. `watch` is called every few milliseconds, in
  // place of the log's lines; Cancelled when it returns false.
  absl::Status WaitReady(const std::function<bool(const ClusterStatus&)>& watch = LogProgress());
  static std::function<bool(const ClusterStatus&)> LogProgress();
  Cluster& cluster() { return *cluster_; }
  Engine& engine() { return *engine_; }

 private:
  std::unique_ptr<Cluster> cluster_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace atl::coordinator
