// Processes of one launch: started, listened to, and ended for certain (the fence).
//
//   ATOLL_ASSIGN_OR_RETURN(auto launch, Launch::Start({.worker_binary = worker, .ranks = 4, ...}));
//   std::optional<std::string> end = launch->Ended();    // "the launcher ended with code 1; last words: ..."
//   launch->Fence(Deadline::After(Seconds(5)));          // every local process of this launch is dead and reaped
//
// Every rank carries "--launch-id ID" in its arguments, so the fence finds them in /proc also when they have not
// registered, and never hits a process that has got a dead rank's number. Ranks on other hosts leave by themselves when
// their stream ends.
#pragma once

#include <sys/types.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "coordinator/cluster/launch_files.h"
#include "parallel/base/deadline.h"
#include "parallel/base/status.h"

namespace atl::coordinator {

struct LaunchOptions {
  std::string worker_binary;
  int ranks = 1;
  bool inproc = false;      // ranks as threads of one process, without mpirun
  std::string hosts_file;   // mpirun --hostfile
  std::string coordinator;  // HOST:PORT that ranks connect to
  std::string launch_id;    // unique among all launches of all coordinators
  uint64_t epoch = 0;
  int threads_per_rank = 1;
  bool show_output = true;  // the ranks' output on our stderr; its end is kept for messages either way
};

// The command line, for tests and messages. `scratch`: where Open MPI keeps its files of this launch.
std::vector<std::string> LaunchCommand(const LaunchOptions& options, const std::string& scratch);

class Launch {
 public:
  static absl::StatusOr<std::unique_ptr<Launch>> Start(const LaunchOptions& options);
  ~Launch();  // Fence

  // How the launcher's process ended, with its last words; nullopt while it runs. Never blocks.
  std::optional<std::string> Ended();
  // A process of this launch on this host that is stopped (SIGSTOP), 0 if none is. Reads all of /proc.
  pid_t Stopped() const;
  // SIGKILL to everything of this launch on this host, until nothing is left or the deadline has passed.
  void Fence(Deadline deadline);

 private:
  Launch(std::string launch_id, bool show_output, LaunchFiles files)
      : launch_id_(std::move(launch_id)), show_output_(show_output), files_(std::move(files)) {}
  void Forward();

  const std::string launch_id_;
  const bool show_output_;
  LaunchFiles files_;  // removed by the fence
  pid_t pid_ = 0;      // 0: reaped
  int output_ = -1;    // read end of the ranks' stdout and stderr
  int wake_ = -1;      // ends Forward
  std::thread forwarder_;
  std::mutex mutex_;
  std::string last_words_;
  std::string end_;
};

}  // namespace atl::coordinator
