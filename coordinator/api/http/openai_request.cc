// A request's body becomes v1::GenerateRequest.
#include "coordinator/api/http/fields.h"
#include "coordinator/api/http/messages.h"
#include "coordinator/api/service.h"
#include "coordinator/chat_template/json_depth.h"

namespace atl::coordinator {
namespace {

constexpr int64_t kMaxChoices = 128;  // as OpenAI has it

// A prompt: a string, ids, or a list of one of them (several prompts in one request are not served).
void ReadPrompt(Fields* fields, v1::GenerateRequest* out) {
  const Json* prompt = fields->Get("prompt");
  if (prompt != nullptr && prompt->is_array() && prompt->size() == 1 && !(*prompt)[0].is_number()) {
    prompt = &(*prompt)[0];
  }
  if (prompt != nullptr && prompt->is_string()) return out->set_prompt(prompt->get<std::string>());
  if (prompt == nullptr || !prompt->is_array() || prompt->empty()) {
    return fields->Wrong("prompt", "a string or a list of token ids");
  }
  for (const Json& id : *prompt) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > INT32_MAX) {
      return fields->Wrong("prompt", "a string or a list of token ids, one prompt a request");
    }
    out->mutable_prompt_ids()->add_ids(id.get<int32_t>());
  }
}

void ReadStops(Fields* fields, v1::GenerateRequest* out) {
  if (const Json* stop = fields->Get("stop")) {
    const Json list = stop->is_array() ? *stop : Json::array({*stop});
    for (const Json& text : list) {
      if (!text.is_string()) return fields->Wrong("stop", "a string or a list of strings");
      out->add_stop(text.get<std::string>());
    }
  }
  if (const Json* ids = fields->Get("stop_token_ids")) {
    if (!ids->is_array()) return fields->Wrong("stop_token_ids", "a list of token ids");
    for (const Json& id : *ids) {
      if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > INT32_MAX) {
        return fields->Wrong("stop_token_ids", "a list of token ids");
      }
      out->add_stop_token_ids(id.get<int32_t>());
    }
  }
}

void ReadStreaming(Fields* fields, OpenAiRequest* out) {
  out->stream = fields->Flag("stream");
  const Json* options = fields->Get("stream_options");
  if (options == nullptr) return;
  if (!options->is_object()) return fields->Wrong("stream_options", "an object");
  const auto flag = [&](const char* key) {
    const auto found = options->find(key);
    return fields->FlagOf(found == options->end() ? nullptr : &*found, std::string("stream_options.") + key);
  };
  out->include_usage = flag("include_usage");
  out->continuous_usage = flag("continuous_usage_stats");
}

// Chat: logprobs true or false, and top_logprobs beside it. Completions: logprobs a number, the sampled token besides.
void ReadLogprobs(Fields* fields, OpenAiRequest* out) {
  const auto set_top = [&](int64_t top) { out->generate.set_top_logprobs(static_cast<int32_t>(top)); };
  if (out->chat) {
    out->logprobs = fields->Flag("logprobs");
    fields->Integer("top_logprobs", 0, kMaxTopLogprobs, set_top);
    if (out->generate.top_logprobs() > 0 && !out->logprobs) {
      fields->Wrong("top_logprobs", "absent or 0 unless logprobs is true");
    }
  } else if (const Json* value = fields->Get("logprobs"); value != nullptr && *value != false) {
    out->logprobs = true;
    fields->Integer("logprobs", 0, kMaxTopLogprobs, set_top);
  }
}

void RefuseWhatIsNotServed(Fields* fields, bool chat) {
  fields->Only("best_of", {1});
  fields->Only("prompt_logprobs", {0});
  fields->Only("echo", {false});
  fields->Only("suffix", {""});
  fields->Only("logit_bias", {Json::object()});
  fields->Only("min_tokens", {0});
  fields->Only("use_beam_search", {false});
  fields->Only("response_format", {Json{{"type", "text"}}});
  if (!chat) fields->Only("tools", {Json::array()});
  fields->Only("functions", {Json::array()});
  fields->Only("modalities", {Json::array({"text"})});
  fields->Only("continue_final_message", {false});
  fields->Only("add_generation_prompt", {true});
}

absl::StatusOr<Json> ParseBody(const std::string& text) {
  if (text.empty()) return InvalidArgument("the body is empty; send a JSON object");
  if (JsonDepth(text) > kMaxJsonDepth) return InvalidArgument("the body nests more than {} deep", kMaxJsonDepth);
  try {
    Json body = Json::parse(text);
    if (body.is_object()) return body;
    return InvalidArgument("the body is JSON, but not an object");
  } catch (const Json::exception& error) {
    std::string message = error.what();  // "[json.exception.parse_error.101] parse error at line ..."
    message.erase(0, message.find(']') + 1);
    return InvalidArgument("the body is not JSON:{}", message.substr(0, 300));  // it quotes the text
  }
}

}  // namespace

absl::StatusOr<OpenAiRequest> ParseOpenAiRequest(const std::string& text, bool chat) {
  ATOLL_ASSIGN_OR_RETURN(const Json body, ParseBody(text));
  OpenAiRequest request;
  request.chat = chat;
  v1::GenerateRequest& out = request.generate;
  Fields fields(body);
  if (const Json* model = fields.Get("model")) {
    model->is_string() ? out.set_model(model->get<std::string>()) : fields.Wrong("model", "a string");
  }
  chat ? ReadMessages(&fields, &out) : ReadPrompt(&fields, &out);
  if (chat) ReadTools(&fields, &request);
  ReadStops(&fields, &out);
  const auto set_max_tokens = [&](int64_t v) { out.set_max_tokens(static_cast<int32_t>(v)); };
  fields.Integer("max_tokens", 1, INT32_MAX, set_max_tokens);
  fields.Integer("max_completion_tokens", 1, INT32_MAX, set_max_tokens);
  if (!chat && !out.has_max_tokens()) out.set_max_tokens(16);  // OpenAI's default of the older endpoint
  fields.Number("temperature", [&](float v) { out.set_temperature(v); });
  fields.Integer("top_k", -1, INT32_MAX, [&](int64_t v) { out.set_top_k(static_cast<int32_t>(v)); });
  fields.Number("top_p", [&](float v) { out.set_top_p(v); });
  fields.Number("min_p", [&](float v) { out.set_min_p(v); });
  fields.Number("repetition_penalty", [&](float v) { out.set_repetition_penalty(v); });
  fields.Number("presence_penalty", [&](float v) { out.set_presence_penalty(v); });
  fields.Number("frequency_penalty", [&](float v) { out.set_frequency_penalty(v); });
  fields.Integer("seed", INT64_MIN, INT64_MAX, [&](int64_t v) { out.set_seed(static_cast<uint64_t>(v)); });
  out.set_ignore_eos(fields.Flag("ignore_eos"));
  ReadStreaming(&fields, &request);
  ReadLogprobs(&fields, &request);
  fields.Integer("n", 1, kMaxChoices, [&](int64_t v) { request.choices = static_cast<int>(v); });
  if (const Json* arguments = fields.Get("chat_template_kwargs")) {
    arguments->is_object() ? void(request.template_arguments = Dump(*arguments))
                           : fields.Wrong("chat_template_kwargs", "an object");
  }
  RefuseWhatIsNotServed(&fields, chat);
  ATOLL_RETURN_IF_ERROR(fields.status());
  request.ignored = fields.Unknown();
  return request;
}

}  // namespace atl::coordinator
