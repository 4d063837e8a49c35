#include "worker/engine.h"

#include <chrono>

#include "parallel/base/log.h"
#include "parallel/base/partition.h"
#include "worker/costs.h"
#include "worker/gather_logits.h"

namespace atl::worker {
namespace {

// Precedes each broadcast of the leader: a plan's size in bytes, or one of these.
constexpr int64_t kIdle = 0;
constexpr int64_t kStop = -1;

}  // namespace

absl::Status Engine::Run(LeaderPort* port) {
  for (;;) {
    status_->phase = "waiting for a plan";
    ATOLL_ASSIGN_OR_RETURN(const Order order, NextOrder(port));
    if (order.kind == Order::Kind::kStop) return absl::OkStatus();
    if (order.kind == Order::Kind::kIdle) continue;
    v1::StepResult result;
    const absl::Status done = Step(order.plan, &result);
    if (!done.ok()) return Annotate(done, fmt::format("step {}", order.plan.step()));
    if (port) port->Send(std::move(result));
  }
}

absl::StatusOr<Order> Engine::NextOrder(LeaderPort* port) {
  const Seconds tick = context_.timeout / 3;
  Order order;
  int64_t header = kIdle;
  std::string bytes;
  if (port) {
    order = port->Next(tick);
    if (order.kind == Order::Kind::kPlan && order.plan.epoch() != options_.epoch) {
      Log()->warn("rank={} drops a plan of epoch {}; this is {}", context_.rank, order.plan.epoch(), options_.epoch);
      order.kind = Order::Kind::kIdle;
    }
    if (order.kind == Order::Kind::kStop) header = kStop;
    if (order.kind == Order::Kind::kPlan) {
      bytes = order.plan.SerializeAsString();
      header = static_cast<int64_t>(bytes.size());
    }
  }
  ATOLL_RETURN_IF_ERROR(Broadcast(Buffer::Of(std::span(&header, 1)), context_.timeout + tick));
  if (header == kIdle || header == kStop) {
    order.kind = header == kStop ? Order::Kind::kStop : Order::Kind::kIdle;
    return order;
  }
  bytes.resize(header);
  ATOLL_RETURN_IF_ERROR(Broadcast({bytes.data(), header, DType::kU8}, context_.timeout));
  if (!port && !order.plan.ParseFromString(bytes)) return Internal("a plan of {} bytes cannot be read", header);
  order.kind = Order::Kind::kPlan;
  return order;
}

absl::Status Engine::Broadcast(Buffer buffer, Seconds budget) {
  ATOLL_ASSIGN_OR_RETURN(parallel::Pending sent, context_.tp_group->StartBroadcast(buffer, 0, {"plan"}));
  return sent.Wait(Deadline::After(budget));
}

absl::Status Engine::Step(const v1::StepPlan& plan, v1::StepResult* result) {
  const auto start = std::chrono::steady_clock::now();
  if (plan.step() != last_step_ + 1 || static_cast<int>(plan.group()) != context_.group()) {
    return Internal("plan of step {} for group {} reached group {} after step {}", plan.step(), plan.group(),
                    context_.group(), last_step_);
  }
  last_step_ = plan.step();
  status_->step = plan.step();
  ATOLL_RETURN_IF_ERROR(sequences_.Apply(plan));
  ATOLL_RETURN_IF_ERROR(sequences_.Build(plan, &batch_));
  status_->phase = "forward";
  ATOLL_ASSIGN_OR_RETURN(const models::LogitRows logits, model_.Forward(batch_.view(), context_));
  const auto forwarded = std::chrono::steady_clock::now();
  status_->phase = "sampling";
  ATOLL_RETURN_IF_ERROR(Sample(plan, logits));
  ATOLL_ASSIGN_OR_RETURN(const std::vector<float> whole, GatherLogits(context_, model_.spec().vocab, batch_, logits));
  ATOLL_RETURN_IF_ERROR(GatherTop(context_, options_.sample_vocab, sequences_, plan, batch_, logits, &top_));
  Conclude(plan, whole, result);
  const auto end = std::chrono::steady_clock::now();
  result->set_seconds(Seconds(end - start).count());
  SetCosts(model_.last_costs(), Seconds(end - forwarded).count(), result->seconds(), result->mutable_costs());
  return absl::OkStatus();
}

absl::Status Engine::Sample(const v1::StepPlan& plan, const models::LogitRows& logits) {
  const auto rows = static_cast<int64_t>(batch_.uses.size());
  const Range home = EvenPart(rows, context_.tp_rank(), context_.topology.tp);
  outcomes_.assign(rows, {});
  if (rows == 0) return absl::OkStatus();
  if (logits.count != home.size() || (logits.count > 0 && logits.first != home.begin)) {
    return Internal("logit rows [{}, +{}) where [{}, {}) are at home", logits.first, logits.count, home.begin,
                    home.end);
  }
  const int64_t vocab = model_.spec().vocab;
  const std::span<RowOutcome> mine = std::span(outcomes_).subspan(home.begin, home.size());
  ParallelFor(model_.pool(), home.size(), [&](int64_t i, int64_t end) {
    thread_local SamplerScratch scratch;
    for (; i < end; ++i) {
      const LogitUse& use = batch_.uses[home.begin + i];
      const std::span<const float> row = logits.values.subspan(i * vocab, vocab);
      if (use.target >= 0) mine[i].target_logprob = LogProbability(row, use.target);
      if (!use.sample) continue;
      const SequenceState& sequence = sequences_.at(plan.rows(use.plan_row).id());
      const Sampled sampled = SampleToken(row, sequence.prompt, sequence.emitted, sequence.sampling, use.position,
                                          options_.sample_vocab, &scratch);
      mine[i].token = sampled.token;
      mine[i].logprob = sampled.logprob;
    }
  });
  GroupCounts counts;
  for (int peer = 0; peer < context_.topology.tp; ++peer) {
    counts.push_back(EvenPart(rows, peer, context_.topology.tp).size() * static_cast<int64_t>(sizeof(RowOutcome)));
  }
  const auto bytes = [](std::span<RowOutcome> rows) {
    return Buffer{rows.data(), static_cast<int64_t>(rows.size_bytes()), DType::kU8};
  };
  ATOLL_ASSIGN_OR_RETURN(parallel::Pending gathered,
                         context_.tp_group->StartAllGatherV(bytes(mine), bytes(outcomes_), counts, {"sampled"}));
  return gathered.Wait(context_.NextDeadline());
}

void Engine::Conclude(const v1::StepPlan& plan, const std::vector<float>& logits, v1::StepResult* result) {
  result->set_epoch(plan.epoch());
  result->set_step(plan.step());
  result->set_group(plan.group());
  result->clear_outputs();
  for (const v1::SequenceRows& rows : plan.rows()) result->add_outputs()->set_id(rows.id());
  const int64_t row_bytes = model_.spec().vocab * static_cast<int64_t>(sizeof(float));
  const char* next_logits = reinterpret_cast<const char*>(logits.data());
  for (size_t i = 0; i < batch_.uses.size(); ++i) {
    const LogitUse& use = batch_.uses[i];
    v1::SequenceOutput* output = result->mutable_outputs(use.plan_row);
    if (use.target >= 0) output->add_target_logprobs(outcomes_[i].target_logprob);
    if (use.logits && !logits.empty()) {
      output->mutable_logits()->append(next_logits, row_bytes);
      next_logits += row_bytes;
    }
    if (!use.sample) continue;
    output->set_first_position(static_cast<int32_t>(use.position));
    output->add_tokens(outcomes_[i].token);
    output->add_logprobs(outcomes_[i].logprob);
    top_.AddTo(static_cast<int64_t>(i), sequences_.at(output->id()).sampling.top_logprobs(), output);
    sequences_.Emit(output->id(), outcomes_[i].token);
  }
}

}  // namespace atl::worker
