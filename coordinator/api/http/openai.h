// OpenAI's JSON, in and out: bodies become v1::GenerateRequest, choices become chunks and completions.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "atoll/v1/inference.pb.h"
#include "coordinator/engine/request.h"

namespace atl::coordinator {

using Json = nlohmann::ordered_json;

struct OpenAiRequest {
  v1::GenerateRequest generate;
  bool chat = false;
  bool stream = false;
  bool include_usage = false;        // a last chunk with the usage
  bool continuous_usage = false;     // and the usage so far in every chunk
  int choices = 1;                   // n
  bool logprobs = false;             // of every token; the most likely ones beside it: generate.top_logprobs
  std::set<std::string> tools;       // names of the tools that may be called
  std::string template_arguments;    // chat_template_kwargs as JSON, or empty
  std::vector<std::string> ignored;  // fields that are not known here
};

// InvalidArgument names the field. Fields that would change the answer and are not served are refused, never ignored.
absl::StatusOr<OpenAiRequest> ParseOpenAiRequest(const std::string& text, bool chat);

// What names an answer: the same in all of its chunks.
struct AnswerHead {
  std::string id, model, fingerprint;
  int64_t created = 0;
  bool chat = false;
};
// `choices`: a list of what Choice gives. `usage`: of the stream so far (continuous_usage), null (a usage chunk will
// come), or absent.
Json Chunk(const AnswerHead& head, Json choices, const std::optional<Json>& usage);
Json Completion(const AnswerHead& head, Json choices, const Usage& usage);
Json UsageJson(const Usage& usage);
Json ErrorBody(int http_status, const absl::Status& status);
std::string Dump(const Json& json);  // on one line; bytes that are not UTF-8 become U+FFFD

}  // namespace atl::coordinator
