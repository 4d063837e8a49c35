// A request as the engine takes it (ids in, tokens out) and what it streams back. Front ends translate to and from it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "atoll/v1/step.pb.h"
#include "parallel/base/status.h"

namespace atl::coordinator {

struct Request {
  std::string id;                   // for logs and clients
  std::vector<int32_t> prompt_ids;  // at least one
  v1::Sampling sampling;
  int64_t max_tokens = 0;               // to emit; at least 1, except 0 with an output that only scores
  std::vector<std::string> stop;        // the text ends before the first of these
  std::vector<int32_t> stop_ids;        // besides the model's own end ids; the token is counted, its text not shown
  std::vector<int32_t> shown_specials;  // special tokens that are part of the text all the same
  bool ignore_eos = false;
  v1::Output output = v1::OUTPUT_SAMPLE;
};

enum class FinishReason { kStop, kLength };
inline const char* Name(FinishReason reason) { return reason == FinishReason::kStop ? "stop" : "length"; }

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
};

// One piece of a stream. The last one carries `finish` or an error in `status`, never both, and `usage`.
struct Delta {
  std::string text;                // new text, whole characters
  std::vector<int32_t> tokens;     // new tokens
  std::vector<float> logprobs;     // of `tokens`
  std::vector<v1::TopTokens> top;  // of `tokens`, where sampling.top_logprobs asks for them
  std::string logits;              // OUTPUT_LOGITS: f32 [rows, vocab] of the next prompt rows, in order
  std::vector<float> target_logprobs;
  std::optional<FinishReason> finish;
  absl::Status status;
  Usage usage;
  bool last() const { return finish.has_value() || !status.ok(); }
};

}  // namespace atl::coordinator
