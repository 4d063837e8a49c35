#include "coordinator/engine/core.h"

#include <algorithm>

#include "parallel/base/log.h"

namespace atl::coordinator {

EngineCore::EngineCore(EngineOptions options, const Tokenizer* tokenizer, Executor* executor)
    : options_(std::move(options)), tokenizer_(tokenizer), executor_(executor), scheduler_(options_.scheduler) {}

absl::Status EngineCore::Validate(const Request& request) const {
  const auto prompt = static_cast<int64_t>(request.prompt_ids.size());
  if (prompt == 0) return InvalidArgument("the prompt is empty; give at least one token");
  for (const int32_t id : request.prompt_ids) {
    if (id < 0 || (options_.vocab > 0 && id >= options_.vocab)) {
      return InvalidArgument("token id {} in the prompt; the model knows 0 to {}", id, options_.vocab - 1);
    }
  }
  const bool scores = request.output != v1::OUTPUT_SAMPLE;
  if (request.max_tokens < (scores ? 0 : 1)) {
    return InvalidArgument("max_tokens is {}; at least {} is needed", request.max_tokens, scores ? 0 : 1);
  }
  const SchedulerOptions& scheduler = options_.scheduler;
  const int64_t most = options_.max_positions > 0 ? options_.max_positions : int64_t{1} << 40;
  const int64_t context =
      models::LongestSequence(scheduler.kv_groups, scheduler.kv_block_tokens, scheduler.kv_blocks, most);
  // Compared without their sum, which a wild max_tokens would overflow.
  if (prompt > context || request.max_tokens > context - prompt) {
    return InvalidArgument("prompt of {} tokens and max_tokens {} do not fit the context of {} tokens", prompt,
                           request.max_tokens, context);
  }
  return absl::OkStatus();
}

void EngineCore::Submit(Request request, std::shared_ptr<TokenStream> stream) {
  const uint64_t id = stream->id();
  Sequence sequence{.id = id,
                    .prompt_ids = request.prompt_ids,
                    .max_tokens = request.max_tokens,
                    .sampling = request.sampling,
                    .output = request.output};
  live_.try_emplace(id, Live{Generation(std::move(request), options_.eos_ids, tokenizer_), std::move(stream)});
  if (absl::Status added = scheduler_.Add(std::move(sequence)); !added.ok()) End(id, added);
}

void EngineCore::Cancel(uint64_t id) {
  if (live_.erase(id) == 0) return;
  scheduler_.Remove(id);
  ++stats_.cancelled;
}

void EngineCore::OnSpace(uint64_t id) { scheduler_.Resume(id); }

void EngineCore::End(uint64_t id, const absl::Status& status) {
  const auto found = live_.find(id);
  if (found == live_.end()) return;
  Log()->warn("request={} ends: {}", found->second.generation.request().id, ToString(status.message()));
  Delta last;
  last.status = status;
  last.usage = found->second.generation.usage();
  const std::shared_ptr<TokenStream> stream = std::move(found->second.stream);
  live_.erase(found);
  scheduler_.Remove(id);
  ++stats_.failed;
  stream->Push(std::move(last));
}

void EngineCore::EndAll(const absl::Status& status) {
  while (!live_.empty()) End(live_.begin()->first, status);
}

void EngineCore::OnReady(uint64_t epoch) {
  scheduler_.Reset(epoch);
  stats_.epoch = epoch;
  stats_.ready = true;
}

void EngineCore::OnLost(uint64_t epoch, const std::string& reason, double now) {
  const SchedulerStats before = scheduler_.stats();
  scheduler_.Lost();
  if (stats_.ready) {
    ++stats_.restarts;
    stats_.replayed += before.running;
    lost_at_ = now;
  }
  stats_.ready = false;
  Log()->warn("epoch={} is lost with {} requests running and {} waiting: {}", epoch, before.running, before.waiting,
              reason);
  for (const uint64_t id : scheduler_.TakeFailed()) {
    End(id, Internal("the ranks crashed three times while this request was running; the last time: {}", reason));
  }
}

void EngineCore::OnResult(const v1::StepResult& result, double now) {
  if (!stats_.ready || result.epoch() != stats_.epoch) return;
  if (lost_at_) stats_.last_recovery_seconds = now - *std::exchange(lost_at_, std::nullopt);
  if (result.group() == 0) {
    ++stats_.steps;
    stats_.step_seconds += result.seconds();
  }
  for (Emitted& emitted : scheduler_.OnResult(result)) {
    const uint64_t id = emitted.id;
    Live& live = live_.at(id);
    if (emitted.prompt_done && !live.prompt_counted) {
      live.prompt_counted = true;
      stats_.prompt_tokens += live.generation.usage().prompt_tokens;
    }
    Delta delta = live.generation.Take(std::move(emitted));
    stats_.generated_tokens += static_cast<int64_t>(delta.tokens.size());
    const std::shared_ptr<TokenStream> stream = live.stream;
    if (delta.finish) {
      ++(*delta.finish == FinishReason::kStop ? stats_.finished_stop : stats_.finished_length);
      live_.erase(id);
      scheduler_.Remove(id);
    }
    const bool worth_sending = !delta.tokens.empty() || !delta.logits.empty() || !delta.target_logprobs.empty();
    if ((worth_sending || delta.last()) && !stream->Push(std::move(delta))) scheduler_.Pause(id);
  }
}

void EngineCore::Pump() {
  while (std::optional<std::vector<v1::StepPlan>> plans = scheduler_.PlanStep()) executor_->Execute(*std::move(plans));
}

EngineStats EngineCore::stats() const {
  EngineStats stats = stats_;
  const SchedulerStats scheduler = scheduler_.stats();
  stats.running = scheduler.running + scheduler.paused;
  stats.waiting = scheduler.waiting;
  stats.free_kv_blocks = scheduler.free_blocks;
  stats.kv_blocks = scheduler.blocks;
  stats.preemptions = scheduler.preemptions;
  return stats;
}

}  // namespace atl::coordinator
