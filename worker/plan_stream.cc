#include "worker/plan_stream.h"

namespace atl::worker {

PlanStream::PlanStream(v1::Control::Stub* stub, uint64_t epoch, int group) : stream_(stub->Execute(&context_)) {
  v1::LeaderReport report;
  report.mutable_hello()->set_epoch(epoch);
  report.mutable_hello()->set_group(group);
  stream_->Write(report);
  reader_ = std::thread([this] { Read(); });
  writer_ = std::thread([this] { Write(); });
}

PlanStream::~PlanStream() {
  {
    std::lock_guard lock(mutex_);
    complete_ = true;
  }
  made_.notify_one();
  writer_.join();
  context_.TryCancel();
  reader_.join();
}

void PlanStream::Read() {
  v1::StepPlan plan;
  while (stream_->Read(&plan)) {
    {
      std::lock_guard lock(mutex_);
      plans_.push_back(std::move(plan));
    }
    came_.notify_one();
  }
}

Order PlanStream::Next(Seconds wait) {
  std::unique_lock lock(mutex_);
  came_.wait_until(lock, Deadline::After(wait).at, [this] { return !plans_.empty() || stopping_; });
  if (plans_.empty()) return {.kind = stopping_ ? Order::Kind::kStop : Order::Kind::kIdle, .plan = {}};
  Order order{.kind = Order::Kind::kPlan, .plan = std::move(plans_.front())};
  plans_.pop_front();
  return order;
}

void PlanStream::Send(v1::StepResult result) {
  {
    std::lock_guard lock(mutex_);
    results_.push_back(std::move(result));
  }
  made_.notify_one();
}

void PlanStream::Write() {
  std::unique_lock lock(mutex_);
  for (;;) {
    made_.wait(lock, [this] { return !results_.empty() || complete_; });
    if (results_.empty()) return;
    v1::LeaderReport report;
    *report.mutable_result() = std::move(results_.front());
    results_.pop_front();
    lock.unlock();
    stream_->Write(report);  // a broken stream is the reader's to notice
    lock.lock();
  }
}

void PlanStream::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  came_.notify_one();
}

}  // namespace atl::worker
