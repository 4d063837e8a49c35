// A client's request becomes the engine's: checked, rendered, tokenized, submitted.
#include <algorithm>

#include "coordinator/api/service.h"

namespace atl::coordinator {
namespace {

absl::Status InRange(const char* field, double value, double least, double most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return BadField(field, "{} is {}; it must be from {} to {}", field, value, least, most);
}

absl::Status CheckSampling(const v1::Sampling& s) {
  ATOLL_RETURN_IF_ERROR(InRange("temperature", s.temperature(), 0, 100));
  ATOLL_RETURN_IF_ERROR(InRange("top_k", s.top_k(), -1, 1 << 24));
  ATOLL_RETURN_IF_ERROR(InRange("top_p", s.top_p(), 0, 1));
  ATOLL_RETURN_IF_ERROR(InRange("min_p", s.min_p(), 0, 1));
  ATOLL_RETURN_IF_ERROR(InRange("repetition_penalty", s.repetition_penalty(), 0, 100));
  ATOLL_RETURN_IF_ERROR(InRange("presence_penalty", s.presence_penalty(), -2, 2));
  return InRange("frequency_penalty", s.frequency_penalty(), -2, 2);
}

v1::Sampling MergeSampling(const v1::GenerateRequest& r, const v1::Sampling& defaults) {
  v1::Sampling s = defaults;
  if (r.has_temperature()) s.set_temperature(r.temperature());
  if (r.has_top_k()) s.set_top_k(r.top_k());
  if (r.has_top_p()) s.set_top_p(r.top_p());
  if (r.has_min_p()) s.set_min_p(r.min_p());
  if (r.has_repetition_penalty()) s.set_repetition_penalty(r.repetition_penalty());
  if (r.has_presence_penalty()) s.set_presence_penalty(r.presence_penalty());
  if (r.has_frequency_penalty()) s.set_frequency_penalty(r.frequency_penalty());
  s.set_seed(r.has_seed() ? r.seed() : RandomSeed());
  s.set_top_logprobs(static_cast<uint32_t>(std::clamp(r.top_logprobs(), 0, kMaxTopLogprobs)));
  return s;
}

absl::Status ReadStops(const v1::GenerateRequest& r, Request* request) {
  if (r.stop_size() > 16) return BadField("stop", "stop: {} strings are over the limit of 16", r.stop_size());
  for (const std::string& stop : r.stop()) {
    if (stop.empty()) return BadField("stop", "stop: an empty string would end every answer");
    request->stop.push_back(stop);
  }
  request->stop_ids.assign(r.stop_token_ids().begin(), r.stop_token_ids().end());
  request->ignore_eos = r.ignore_eos();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Request> Service::ToRequest(const v1::GenerateRequest& r, const std::string& template_arguments) const {
  if (!r.model().empty() && r.model() != name) {
    return WithCode(NotFound("model \"{}\" is not served here; \"{}\" is", r.model(), name), "model_not_found",
                    "model");
  }
  const int inputs = (r.has_prompt() ? 1 : 0) + (r.has_prompt_ids() ? 1 : 0) + (r.messages_size() > 0 ? 1 : 0);
  if (inputs != 1) {
    return BadField("prompt", "give exactly one of prompt, prompt_ids and messages, not {} of them", inputs);
  }
  Request request;
  request.id = r.request_id().empty() ? MakeId("req") : r.request_id();
  request.sampling = MergeSampling(r, defaults);
  ATOLL_RETURN_IF_ERROR(CheckSampling(request.sampling));
  ATOLL_RETURN_IF_ERROR(InRange("top_logprobs", r.top_logprobs(), 0, kMaxTopLogprobs));
  if (request.sampling.top_k() < 0) request.sampling.set_top_k(0);
  ATOLL_RETURN_IF_ERROR(ReadStops(r, &request));
  if (r.has_max_tokens() && r.max_tokens() < 1) {
    return BadField("max_tokens", "max_tokens is {}; it must be at least 1", r.max_tokens());
  }
  const char* input = r.messages_size() > 0 ? "messages" : "prompt";
  if (r.has_prompt_ids()) {
    request.prompt_ids.assign(r.prompt_ids().ids().begin(), r.prompt_ids().ids().end());
  } else if (r.has_prompt()) {
    request.prompt_ids = tokenizer->Encode(r.prompt(), {.add_special = true});
  } else {
    const absl::StatusOr<std::string> text = Render(r, template_arguments);
    const bool unnamed = absl::IsInvalidArgument(text.status()) && FieldOf(text.status()).empty();
    if (unnamed) return WithCode(text.status(), "", input);
    ATOLL_RETURN_IF_ERROR(text.status());
    request.prompt_ids = tokenizer->Encode(*text, {});
  }
  if (request.prompt_ids.empty()) return BadField(input, "the prompt is empty; at least one token is needed");
  const auto prompt = static_cast<int64_t>(request.prompt_ids.size());
  request.max_tokens = r.has_max_tokens() ? r.max_tokens() : std::max<int64_t>(1, context() - prompt);
  if (prompt + request.max_tokens > context()) {
    return WithCode(
        prompt >= context()
            ? InvalidArgument("the prompt has {} tokens; the context of {} tokens has no room for it and an "
                              "answer",
                              prompt, context())
            : InvalidArgument("the prompt's {} tokens and max_tokens {} are over the context of {} tokens", prompt,
                              request.max_tokens, context()),
        "context_length_exceeded", input);
  }
  return request;
}

absl::StatusOr<std::shared_ptr<TokenStream>> Service::Submit(Request request) const {
  if (const EngineStats stats = engine->stats(); stats.epoch == 0) {
    const ClusterStatus status = cluster->status();
    return WithCode(Unavailable("the ranks are loading: {} of {} MiB of weights so far; try again",
                                status.load_bytes_done >> 20, status.load_bytes_total >> 20),
                    "loading", "");
  }
  return engine->Submit(std::move(request));
}

}  // namespace atl::coordinator
