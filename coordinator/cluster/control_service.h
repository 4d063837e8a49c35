// The gRPC service that ranks connect to: streams in and out, without any decision.
//
//   ControlService service(events, results);     // both are called in gRPC's threads: results of steps, and all else
//   service.Send(event.stream, directive);       // any thread; vanishes if the stream has ended
//   service.Refuse(event.stream, status);        // ends the stream with an error
//
// Every stream gets a number; its messages arrive in order, and its end is its last event.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "atoll/v1/control.grpc.pb.h"
#include "parallel/base/status.h"

namespace atl::coordinator {

struct ControlEvent {
  enum class Kind { kRankReport, kLeaderHello, kEnded };
  Kind kind = Kind::kEnded;
  uint64_t stream = 0;
  v1::RankReport rank;
  v1::LeaderHello leader;
};

class ControlService : public v1::Control::CallbackService {
 public:
  using Events = std::function<void(ControlEvent)>;
  using Results = std::function<void(uint64_t stream, v1::StepResult result)>;
  ControlService(Events events, Results results) : events_(std::move(events)), results_(std::move(results)) {}

  grpc::ServerBidiReactor<v1::RankReport, v1::Directive>* Join(grpc::CallbackServerContext*) override;
  grpc::ServerBidiReactor<v1::LeaderReport, v1::StepPlan>* Execute(grpc::CallbackServerContext*) override;

  void Send(uint64_t stream, v1::Directive directive);
  void Send(uint64_t stream, v1::StepPlan plan);
  void Refuse(uint64_t stream, const absl::Status& status);

 private:
  template <typename In, typename Out>
  class Stream;
  using RankStream = Stream<v1::RankReport, v1::Directive>;
  using LeaderStream = Stream<v1::LeaderReport, v1::StepPlan>;

  template <typename S>
  S* Open(std::map<uint64_t, std::shared_ptr<S>>* streams);
  template <typename S>
  std::shared_ptr<S> Find(const std::map<uint64_t, std::shared_ptr<S>>& streams, uint64_t stream);
  void Closed(uint64_t stream);

  const Events events_;
  const Results results_;
  std::mutex mutex_;
  uint64_t next_stream_ = 1;
  std::map<uint64_t, std::shared_ptr<RankStream>> ranks_;
  std::map<uint64_t, std::shared_ptr<LeaderStream>> leaders_;
};

}  // namespace atl::coordinator
