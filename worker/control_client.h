// A rank's line to the coordinator: the Join stream that every rank keeps. A group's leader opens its line for steps
// (worker/plan_stream.h) through it.
//
//   ControlClient control(address, registration, &status);    // registers; heartbeats begin
//   ATOLL_ASSIGN_OR_RETURN(v1::Assignment job, control.AwaitAssignment(deadline));
//   control.ReportProgress(done, total); ... control.ReportReady(bytes);
//   ATOLL_RETURN_IF_ERROR(control.AwaitStart(deadline));
//   LeaderPort* port = leader ? control.OpenExecute(group) : nullptr;
//   ... on an error: control.ReportFailure(status), then _exit
//
// Reading, writing heartbeats and waiting happen outside the engine's thread. A stream that breaks ends the process at
// once (_exit): without a coordinator a rank has no purpose, and nothing may outlive its epoch. Shutdown stops the
// engine at its next order; a watchdog ends a process that has not left kExitGrace later.
#pragma once

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "atoll/v1/control.grpc.pb.h"
#include "parallel/base/deadline.h"
#include "parallel/base/status.h"
#include "worker/engine.h"
#include "worker/plan_stream.h"

namespace atl::worker {

inline constexpr Seconds kExitGrace{3};

class ControlClient {
 public:
  ControlClient(const std::string& address, const v1::Register& registration, const EngineStatus* status);
  ~ControlClient();  // after Shutdown

  absl::StatusOr<v1::Assignment> AwaitAssignment(Deadline deadline);
  absl::Status AwaitStart(Deadline deadline);
  void ReportProgress(int64_t done, int64_t total);
  void ReportReady(const std::map<std::string, int64_t>& bytes);
  void ReportFailure(const absl::Status& status);  // waits until it is on its way

  LeaderPort* OpenExecute(int group);  // after AwaitStart; lives as long as this

 private:
  void Write(v1::RankReport report);
  void ReadDirectives();
  void SendHeartbeats();
  void Shutdown(const std::string& reason);

  const int rank_;
  const EngineStatus* const engine_;
  std::unique_ptr<v1::Control::Stub> stub_;
  grpc::ClientContext join_context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::RankReport, v1::Directive>> join_;
  std::mutex write_mutex_;  // of join_
  std::mutex mutex_;        // of all below
  std::condition_variable changed_;
  std::optional<v1::Assignment> assignment_;
  bool started_ = false, stopping_ = false;
  Seconds heartbeat_interval_{0.5};
  std::unique_ptr<PlanStream> plans_;
  std::thread directives_, heartbeats_;
};

}  // namespace atl::worker
