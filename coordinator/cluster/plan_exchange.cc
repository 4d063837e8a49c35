#include "coordinator/cluster/plan_exchange.h"

#include <algorithm>

namespace atl::coordinator {

void PlanExchange::Execute(std::vector<v1::StepPlan> plans) {
  std::vector<std::optional<uint64_t>> leaders;
  {
    std::lock_guard lock(mutex_);
    if (!open_ || plans.empty() || plans[0].epoch() != epoch_) return;
    leaders = leaders_;
  }
  for (v1::StepPlan& plan : plans) {
    const uint64_t leader = *leaders.at(plan.group());
    service_->Send(leader, std::move(plan));  // vanishes if the stream has ended
  }
}

// Groups finish a step within moments of each other, but a fast one may be a step ahead.
void PlanExchange::OnResult(uint64_t stream, v1::StepResult result) {
  std::lock_guard lock(mutex_);
  const bool known = std::find(leaders_.begin(), leaders_.end(), stream) != leaders_.end();
  if (!open_ || !known || result.epoch() != epoch_) return;
  results_[result.step()].push_back(std::move(result));
  while (!results_.empty() && results_.begin()->first == step_) {
    auto results = results_.extract(step_);
    for (v1::StepResult& next : results.mapped()) {
      ++delivered_;
      listener_->OnResult(std::move(next));
    }
    if (delivered_ < leaders_.size()) return;
    delivered_ = 0;
    ++step_;
  }
}

void PlanExchange::Begin(uint64_t epoch, ExecutorListener* listener) {
  std::lock_guard lock(mutex_);
  listener_ = listener;
  epoch_ = epoch;
  open_ = false;
  std::fill(leaders_.begin(), leaders_.end(), std::nullopt);
  results_.clear();
  step_ = 1;
  delivered_ = 0;
}

absl::Status PlanExchange::AddLeader(uint64_t stream, const v1::LeaderHello& hello) {
  std::lock_guard lock(mutex_);
  if (hello.epoch() != epoch_ || hello.group() >= leaders_.size() || leaders_[hello.group()]) {
    return Aborted("epoch {} group {}: this is epoch {} of {} groups, each with one leader", hello.epoch(),
                   hello.group(), epoch_, leaders_.size());
  }
  leaders_[hello.group()] = stream;
  return absl::OkStatus();
}

bool PlanExchange::complete() const {
  std::lock_guard lock(mutex_);
  return std::all_of(leaders_.begin(), leaders_.end(), [](const auto& leader) { return leader.has_value(); });
}

void PlanExchange::Open() {
  std::lock_guard lock(mutex_);
  open_ = true;
}

void PlanExchange::Close() {
  std::lock_guard lock(mutex_);
  open_ = false;
  std::fill(leaders_.begin(), leaders_.end(), std::nullopt);
}

std::optional<int> PlanExchange::GroupOf(uint64_t stream) const {
  std::lock_guard lock(mutex_);
  const auto found = std::find(leaders_.begin(), leaders_.end(), stream);
  if (found == leaders_.end()) return std::nullopt;
  return static_cast<int>(found - leaders_.begin());
}

}  // namespace atl::coordinator
