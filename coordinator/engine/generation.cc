#include "coordinator/engine/generation.h"

#include <algorithm>

namespace atl::coordinator {

std::string StopFilter::Push(const std::string& piece) {
  if (stopped_) return "";
  held_ += piece;
  size_t cut = std::string::npos;
  for (const std::string& stop : stops_) {
    if (!stop.empty()) cut = std::min(cut, held_.find(stop));
  }
  stopped_ = cut != std::string::npos;
  // The longest end of the text that begins a stop string stays; a stop string that is found takes the rest with it.
  size_t keep = 0;
  for (const std::string& stop : stops_) {
    if (stopped_ || stop.empty()) continue;
    for (size_t length = std::min(stop.size() - 1, held_.size()); length > keep; --length) {
      if (held_.compare(held_.size() - length, length, stop, 0, length) == 0) keep = length;
    }
  }
  std::string shown = held_.substr(0, stopped_ ? cut : held_.size() - keep);
  held_ = stopped_ ? "" : held_.substr(held_.size() - keep);
  return shown;
}

std::string StopFilter::Finish() { return std::exchange(held_, ""); }

Generation::Generation(Request request, const std::vector<int64_t>& eos_ids, const Tokenizer* tokenizer)
    : request_(std::move(request)), end_ids_(request_.stop_ids), filter_(request_.stop) {
  if (!request_.ignore_eos) end_ids_.insert(end_ids_.end(), eos_ids.begin(), eos_ids.end());
  if (tokenizer) decoder_.emplace(tokenizer, /*skip_special=*/true, request_.shown_specials);
}

bool Generation::Ends(int32_t token) const {
  return std::find(end_ids_.begin(), end_ids_.end(), token) != end_ids_.end();
}

Delta Generation::Take(Emitted emitted) {
  v1::SequenceOutput& output = emitted.output;
  Delta delta;
  delta.logits = std::move(*output.mutable_logits());
  delta.target_logprobs.assign(output.target_logprobs().begin(), output.target_logprobs().end());
  for (int i = 0; i < output.tokens_size() && !delta.finish; ++i) {
    const int32_t token = output.tokens(i);
    delta.tokens.push_back(token);
    if (i < output.logprobs_size()) delta.logprobs.push_back(output.logprobs(i));
    if (i < output.top_size()) delta.top.push_back(std::move(*output.mutable_top(i)));
    ++tokens_;
    const bool ends = Ends(token);
    if (decoder_ && !ends) delta.text += filter_.Push(decoder_->Push(token));
    if (ends || filter_.stopped()) {
      delta.finish = FinishReason::kStop;
    } else if (tokens_ == request_.max_tokens) {
      delta.finish = FinishReason::kLength;
    }
  }
  if (request_.max_tokens == 0 && emitted.prompt_done) delta.finish = FinishReason::kLength;
  if (delta.finish) {
    if (decoder_) delta.text += filter_.Push(decoder_->Finish());
    delta.text += filter_.Finish();
    if (filter_.stopped()) delta.finish = FinishReason::kStop;
    delta.usage = usage();
  }
  return delta;
}

}  // namespace atl::coordinator
