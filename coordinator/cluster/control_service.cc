#include "coordinator/cluster/control_service.h"

#include <deque>
#include <optional>

namespace atl::coordinator {

// One stream. gRPC allows one write at a time and no write after Finish, so writes queue here.
template <typename In, typename Out>
class ControlService::Stream : public grpc::ServerBidiReactor<In, Out> {
 public:
  Stream(ControlService* service, uint64_t number) : service_(service), number_(number) { this->StartRead(&in_); }

  void Send(Out message) {
    std::lock_guard lock(mutex_);
    if (end_) return;
    out_.push_back(std::move(message));
    if (out_.size() == 1) this->StartWrite(&out_.front());
  }

  void End(const grpc::Status& status) {
    std::lock_guard lock(mutex_);
    if (end_) return;
    end_ = status;
    if (out_.empty()) this->Finish(status);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      Report({});
      return End(grpc::Status::OK);
    }
    ControlEvent event;
    if constexpr (std::is_same_v<In, v1::RankReport>) {
      event.kind = ControlEvent::Kind::kRankReport;
      event.rank = std::move(in_);
      Report(std::move(event));
    } else if (in_.has_result()) {
      service_->results_(number_, std::move(*in_.mutable_result()));
    } else {
      event.kind = ControlEvent::Kind::kLeaderHello;
      event.leader = std::move(*in_.mutable_hello());
      Report(std::move(event));
    }
    in_ = In();
    this->StartRead(&in_);
  }

  void OnWriteDone(bool ok) override {
    std::lock_guard lock(mutex_);
    out_.pop_front();
    if (!ok || end_) out_.clear();
    if (!out_.empty()) {
      this->StartWrite(&out_.front());
    } else if (end_) {
      this->Finish(*end_);
    }
  }

  void OnDone() override { service_->Closed(number_); }  // the last that is heard of this object

 private:
  void Report(ControlEvent event) {
    event.stream = number_;
    service_->events_(std::move(event));
  }

  ControlService* const service_;
  const uint64_t number_;
  In in_;
  std::mutex mutex_;
  std::deque<Out> out_;  // the first is being written
  std::optional<grpc::Status> end_;
};

template <typename S>
S* ControlService::Open(std::map<uint64_t, std::shared_ptr<S>>* streams) {
  std::lock_guard lock(mutex_);
  const uint64_t number = next_stream_++;
  return (streams->emplace(number, std::make_shared<S>(this, number)).first->second).get();
}

template <typename S>
std::shared_ptr<S> ControlService::Find(const std::map<uint64_t, std::shared_ptr<S>>& streams, uint64_t stream) {
  std::lock_guard lock(mutex_);
  const auto found = streams.find(stream);
  return found == streams.end() ? nullptr : found->second;
}

void ControlService::Closed(uint64_t stream) {
  std::shared_ptr<RankStream> rank;  // destroyed after the lock is released
  std::shared_ptr<LeaderStream> leader;
  std::lock_guard lock(mutex_);
  if (auto node = ranks_.extract(stream)) rank = std::move(node.mapped());
  if (auto node = leaders_.extract(stream)) leader = std::move(node.mapped());
}

grpc::ServerBidiReactor<v1::RankReport, v1::Directive>* ControlService::Join(grpc::CallbackServerContext*) {
  return Open(&ranks_);
}

grpc::ServerBidiReactor<v1::LeaderReport, v1::StepPlan>* ControlService::Execute(grpc::CallbackServerContext*) {
  return Open(&leaders_);
}

void ControlService::Send(uint64_t stream, v1::Directive directive) {
  if (const auto found = Find(ranks_, stream)) found->Send(std::move(directive));
}

void ControlService::Send(uint64_t stream, v1::StepPlan plan) {
  if (const auto found = Find(leaders_, stream)) found->Send(std::move(plan));
}

void ControlService::Refuse(uint64_t stream, const absl::Status& status) {
  const grpc::Status refusal(static_cast<grpc::StatusCode>(status.code()), ToString(status.message()));
  if (const auto found = Find(ranks_, stream)) found->End(refusal);
  if (const auto found = Find(leaders_, stream)) found->End(refusal);
}

}  // namespace atl::coordinator
