#include "coordinator/cli/running_cluster.h"

#include <thread>

#include "parallel/base/log.h"

namespace atl::coordinator {

absl::StatusOr<std::unique_ptr<RunningCluster>> RunningCluster::Create(const ClusterOptions& cluster,
                                                                       EngineOptions engine,
                                                                       const Tokenizer* tokenizer) {
  auto running = std::make_unique<RunningCluster>();
  ATOLL_ASSIGN_OR_RETURN(running->cluster_, Cluster::Create(cluster));
  engine.eos_ids = cluster.spec.eos_ids;
  engine.vocab = cluster.spec.vocab;
  engine.max_positions = cluster.spec.max_positions;
  running->engine_ = std::make_unique<Engine>(std::move(engine), tokenizer, running->cluster_->executor());
  return running;
}

void RunningCluster::Launch(ExecutorListener* listener) {
  cluster_->Start(listener != nullptr ? listener : engine_->listener());
}

RunningCluster::~RunningCluster() {
  if (engine_) engine_->Stop();
  if (cluster_) cluster_->Shutdown(Deadline::After(Seconds(10)));
  cluster_.reset();  // its threads call the engine's listener: they end first
}

absl::Status RunningCluster::WaitReady(const std::function<bool(const ClusterStatus&)>& watch) {
  while (!engine_->stats().ready) {
    const ClusterStatus status = cluster_->status();
    if (status.gave_up) return Unavailable("the ranks do not come up: {}", status.last_loss);
    if (!watch(status)) return Cancelled("stopped while the ranks were loading");
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return absl::OkStatus();
}

std::function<bool(const ClusterStatus&)> RunningCluster::LogProgress() {
  return [shown = int64_t{-1}](const ClusterStatus& status) mutable {
    const int64_t percent = status.load_bytes_total > 0 ? 100 * status.load_bytes_done / status.load_bytes_total : -1;
    if (percent / 10 > shown / 10) {
      Log()->info("loading weights: {} % of {} MiB", percent, status.load_bytes_total >> 20);
      shown = percent;
    }
    return true;
  };
}

}  // namespace atl::coordinator
