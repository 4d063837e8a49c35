// The job's ranks: launched, registered, watched and restarted. Its executor (plan_exchange.h) is the real one.
//
//   ATOLL_ASSIGN_OR_RETURN(std::unique_ptr<Cluster> cluster, Cluster::Create(options));   // checks, listens
//   Engine engine(..., cluster->executor());
//   cluster->Start(engine.listener());       // launches; OnReady follows when all ranks have loaded
//   ...
//   cluster->Shutdown(Deadline::After(...));
//
// One epoch is one set of ranks. A rank that dies (its stream ends), falls silent (no heartbeat for silence_timeout; on
// this host also stopped for so long before it has registered) or reports a failure ends the epoch: OnLost, every
// process of the launch is killed (the fence) and reaped, and the next epoch is launched after a short delay that grows
// while launches fail; after options.max_failed_launches in a row (epochs that never became ready) the cluster gives
// up: OnLost says why, status().gave_up. It gives up at once when the very first launch fails because of what it was
// given (a broken file). OnLost is called for epochs that were ready, and once at giving up. Ranks started by others
// (external) are told to exit and awaited again. OnReady and OnLost come from the cluster's own thread, results between
// them in step order, one at a time.
#pragma once

#include <memory>
#include <string>

#include "coordinator/scheduler/executor.h"
#include "models/spec/model_spec.h"
#include "models/spec/rank_memory.h"
#include "parallel/base/deadline.h"
#include "parallel/placement.h"

namespace atl::coordinator {

enum class Transport { kMpi, kInproc };

struct ClusterOptions {
  std::string model_path;
  models::ModelSpec spec;
  models::JobShape shape;
  bool dummy_weights = false;
  std::string matformer;  // the slice of the checkpoint that spec already is (models/spec/matformer.h); empty: all
  std::string weights, head_weights;  // what spec.kept was made of (models/spec/kept_formats.h); empty: as stored
  bool report_weight_errors = false;  // each rank writes how far the weights moved that it converts
  int64_t sample_vocab = 0;           // ids the tokenizer knows; 0: all of the model's
  parallel::ExpertPlacement placement = parallel::ExpertPlacement::Contiguous(1, 1);
  Transport transport = Transport::kMpi;
  bool external_ranks = false;                  // wait for ranks that Slurm or a person starts
  std::string hosts_file;                       // mpirun --hostfile
  std::string worker_binary;                    // empty: atoll-worker beside this program
  std::string control_address = "127.0.0.1:0";  // where ranks connect; port 0: any
  int threads_per_rank = 1;
  bool show_output = true;  // what the ranks print goes to our stderr
  Seconds silence_timeout{5};
  Seconds heartbeat_interval{0.5};
  Seconds collective_timeout{30};
  Seconds register_timeout{60};  // from launch until all ranks have registered
  Seconds start_timeout{600};    // from launch until all ranks are ready
  int max_failed_launches = 5;
};

struct ClusterStatus {
  uint64_t epoch = 0;
  bool ready = false;
  bool gave_up = false;  // no further launch will be tried; last_loss says why
  int registered = 0;
  int64_t load_bytes_done = 0, load_bytes_total = 0;
  int restarts = 0;
  std::string last_loss;  // why the last epoch ended
  std::string kernel_target;
  std::vector<int64_t> pids;  // by rank, of the current epoch; 0: not registered
};

class Cluster {
 public:
  static absl::StatusOr<std::unique_ptr<Cluster>> Create(const ClusterOptions& options);
  virtual ~Cluster() = default;
  virtual Executor* executor() = 0;
  virtual void Start(ExecutorListener* listener) = 0;
  virtual int control_port() const = 0;
  virtual ClusterStatus status() const = 0;
  virtual void Shutdown(Deadline deadline) = 0;  // orderly: ranks are told, then awaited, then killed
};

}  // namespace atl::coordinator
