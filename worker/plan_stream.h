// A leader's line for steps: plans come in on the Execute stream, results go out on it.
//
//   PlanStream plans(stub, epoch, group);      // opens the stream and says hello
//   Order order = plans.Next(Seconds(10));     // the engine's thread; kIdle after the wait, kStop once told to stop
//   plans.Send(std::move(result));             // hands over; in order
//   plans.Stop();                             // any thread: once the plans that came are taken, Next answers kStop
//
// Results leave on a thread of their own: a write takes a third of a millisecond, in which the next step would wait.
// A stream that breaks brings no further plan. That the coordinator is gone shows on the Join stream, which ends the
// process.
#pragma once

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "atoll/v1/control.grpc.pb.h"
#include "worker/engine.h"

namespace atl::worker {

class PlanStream : public LeaderPort {
 public:
  PlanStream(v1::Control::Stub* stub, uint64_t epoch, int group);
  ~PlanStream() override;  // ends the stream, once all results are written

  Order Next(Seconds wait) override;
  void Send(v1::StepResult result) override;
  void Stop();

 private:
  void Read();
  void Write();

  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::LeaderReport, v1::StepPlan>> stream_;
  std::mutex mutex_;                     // of what follows
  std::condition_variable came_, made_;  // a plan or the order to stop; a result or the end of them
  std::deque<v1::StepPlan> plans_;
  std::deque<v1::StepResult> results_;
  bool stopping_ = false, complete_ = false;
  std::thread reader_, writer_;
};

}  // namespace atl::worker
