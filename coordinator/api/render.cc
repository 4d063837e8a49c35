// A conversation becomes text: the messages, the tools and the calls in its history, as the model's template wants
// them.
#include <nlohmann/json.hpp>

#include "coordinator/api/service.h"
#include "coordinator/chat_template/json_depth.h"

namespace atl::coordinator {
namespace {

using json = nlohmann::ordered_json;

// A client's JSON in a text; null where it is none, or nests so deep that copying it would exhaust the stack.
json ParseText(const std::string& text) {
  json parsed = JsonDepth(text) > kMaxJsonDepth ? json() : json::parse(text, nullptr, /*allow_exceptions=*/false);
  return parsed.is_discarded() ? json() : parsed;
}

// Published templates differ in what an assistant's calls look like: arguments as an object or as its text, and no
// content as null or as an empty text. One that is given the other raises an error.
struct CallStyle {
  bool text_arguments, empty_content;
};
constexpr CallStyle kStyles[] = {{false, false}, {true, false}, {false, true}, {true, true}};

absl::StatusOr<json> CallJson(const v1::ToolCall& call, const CallStyle& style) {
  json arguments = ParseText(call.arguments().empty() ? "{}" : call.arguments());
  if (!arguments.is_object()) {
    return BadField("messages", "messages: the arguments of a call of {} are not a JSON object as text",
                    call.name().substr(0, 60));
  }
  if (style.text_arguments) arguments = call.arguments().empty() ? "{}" : call.arguments();
  return json{{"id", call.id()},
              {"type", "function"},
              {"function", {{"name", call.name()}, {"arguments", std::move(arguments)}}}};
}

absl::StatusOr<json> MessageJson(const v1::ChatMessage& message, const CallStyle& style) {
  json out = {{"role", message.role()}, {"content", message.content()}};
  if (message.has_name()) out["name"] = message.name();
  if (message.has_reasoning_content()) out["reasoning_content"] = message.reasoning_content();
  if (message.has_tool_call_id()) out["tool_call_id"] = message.tool_call_id();
  if (message.tool_calls_size() == 0) return out;
  if (message.content().empty() && !style.empty_content) out["content"] = nullptr;
  for (const v1::ToolCall& call : message.tool_calls()) {
    ATOLL_ASSIGN_OR_RETURN(json one, CallJson(call, style));
    out["tool_calls"].push_back(std::move(one));
  }
  return out;
}

// The variables that hold tools: "tools", or SmolLM3's "xml_tools".
absl::Status AddTools(const std::string& tools, const std::string& source, json* variables) {
  const json list = ParseText(tools);
  if (!list.is_array() || list.empty()) return BadField("tools", "tools must be a list of at least one tool");
  if (source.find("tools") == std::string::npos) {
    return BadField("tools", "tools: the model's chat template has no place for them; describe them in a message");
  }
  for (const char* name : {"tools", "xml_tools"}) {
    if (source.find(name) != std::string::npos && !variables->contains(name)) (*variables)[name] = list;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> Service::Render(const v1::GenerateRequest& request,
                                            const std::string& template_arguments) const {
  if (chat_template == nullptr) return BadField("messages", "messages: the model has no chat template; send a prompt");
  json variables = template_arguments.empty() ? json::object() : json::parse(template_arguments, nullptr, false);
  if (!variables.is_object()) return BadField("chat_template_kwargs", "chat_template_kwargs must be an object");
  if (!request.tools().empty()) ATOLL_RETURN_IF_ERROR(AddTools(request.tools(), chat_template->source(), &variables));
  variables["add_generation_prompt"] = true;
  bool calls = false;
  for (const v1::ChatMessage& message : request.messages()) calls = calls || message.tool_calls_size() > 0;
  absl::StatusOr<std::string> first;
  for (const CallStyle& style : kStyles) {
    variables["messages"] = json::array();
    for (const v1::ChatMessage& message : request.messages()) {
      ATOLL_ASSIGN_OR_RETURN(json one, MessageJson(message, style));
      variables["messages"].push_back(std::move(one));
    }
    absl::StatusOr<std::string> text =
        chat_template->Render(variables.dump(-1, ' ', true, json::error_handler_t::replace));
    if (&style == kStyles) first = text;
    if (!calls || !absl::IsInvalidArgument(text.status())) return text;
  }
  return first;
}

}  // namespace atl::coordinator
