#include "coordinator/api/http/openai.h"

#include "coordinator/api/errors.h"

namespace atl::coordinator {
namespace {

Json Answer(const AnswerHead& head, const char* chat_object, Json choices) {
  return {{"id", head.id},
          {"object", head.chat ? chat_object : "text_completion"},
          {"created", head.created},
          {"model", head.model},
          {"system_fingerprint", head.fingerprint},
          {"choices", std::move(choices)}};
}

}  // namespace

Json Chunk(const AnswerHead& head, Json choices, const std::optional<Json>& usage) {
  Json chunk = Answer(head, "chat.completion.chunk", std::move(choices));
  if (usage) chunk["usage"] = *usage;
  return chunk;
}

Json Completion(const AnswerHead& head, Json choices, const Usage& usage) {
  Json body = Answer(head, "chat.completion", std::move(choices));
  body["usage"] = UsageJson(usage);
  return body;
}

Json UsageJson(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
}

Json ErrorBody(int http, const absl::Status& status) {
  const char* type = http == 404   ? "not_found_error"
                     : http == 429 ? "rate_limit_error"
                     : http < 500  ? "invalid_request_error"
                     : http == 503 ? "unavailable_error"
                                   : "server_error";
  const auto text_or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  return {{"error",
           {{"message", ToString(status.message())},
            {"type", type},
            {"param", text_or_null(FieldOf(status))},
            {"code", text_or_null(CodeOf(status))}}}};
}

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace atl::coordinator
