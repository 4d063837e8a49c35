#include "coordinator/api/http/messages.h"

#include "coordinator/chat_template/json_depth.h"

namespace atl::coordinator {
namespace {

// A message's content: a string, or a list of text parts.
std::string ReadContent(Fields* fields, const Json& message, const std::string& where) {
  const auto found = message.find("content");
  if (found == message.end() || found->is_null()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (!found->is_array()) fields->Wrong(where + ".content", "a string or a list of parts");
  std::string text;
  for (const Json& part : *found) {
    const bool is_text =
        part.is_object() && part.value("type", Json()) == "text" && part.contains("text") && part["text"].is_string();
    if (!is_text) {
      fields->Wrong(where + ".content", "text: a string, or parts {\"type\": \"text\", \"text\": ...}");
      return "";
    }
    text += part["text"].get<std::string>();
  }
  return text;
}

const Json* Member(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

// A string under a key, if it is there.
template <typename Set>
void ReadText(Fields* fields, const Json& object, const char* key, const std::string& where, const Set& set) {
  const Json* value = Member(object, key);
  if (value == nullptr) return;
  value->is_string() ? set(value->get<std::string>()) : fields->Wrong(where + "." + key, "a string");
}

void ReadCalls(Fields* fields, const Json& message, const std::string& where, v1::ChatMessage* out) {
  const Json* calls = Member(message, "tool_calls");
  if (calls == nullptr) return;
  if (!calls->is_array()) return fields->Wrong(where + ".tool_calls", "a list");
  for (const Json& call : *calls) {
    const std::string which = fmt::format("{}.tool_calls[{}]", where, out->tool_calls_size());
    const Json* function = call.is_object() ? Member(call, "function") : nullptr;
    if (function == nullptr || !function->is_object() || Member(*function, "name") == nullptr) {
      return fields->Wrong(which, "an object with a function that has a name");
    }
    v1::ToolCall* added = out->add_tool_calls();
    ReadText(fields, call, "id", which, [&](const std::string& v) { added->set_id(v); });
    ReadText(fields, *function, "name", which + ".function", [&](const std::string& v) { added->set_name(v); });
    const Json* arguments = Member(*function, "arguments");
    const std::string text = arguments == nullptr     ? ""
                             : arguments->is_string() ? arguments->get<std::string>()
                                                      : Dump(*arguments);  // some clients send the object itself
    const bool deep = JsonDepth(text) > kMaxJsonDepth;
    if (!text.empty() && (deep || !Json::accept(text) || !Json::parse(text).is_object())) {
      return fields->Wrong(which + ".function.arguments", "a JSON object as text");
    }
    added->set_arguments(text);
  }
}

}  // namespace

void ReadMessages(Fields* fields, v1::GenerateRequest* out) {
  const Json* messages = fields->Get("messages");
  if (messages == nullptr || !messages->is_array() || messages->empty()) {
    return fields->Wrong("messages", "a list of at least one message");
  }
  for (const Json& message : *messages) {
    const std::string where = fmt::format("messages[{}]", out->messages_size());
    if (!message.is_object()) return fields->Wrong(where, "an object with a role");
    if (!message.contains("role") || !message["role"].is_string()) return fields->Wrong(where + ".role", "a string");
    v1::ChatMessage* added = out->add_messages();
    added->set_role(message["role"].get<std::string>());
    added->set_content(ReadContent(fields, message, where));
    ReadText(fields, message, "name", where, [&](const std::string& v) { added->set_name(v); });
    ReadText(fields, message, "tool_call_id", where, [&](const std::string& v) { added->set_tool_call_id(v); });
    for (const char* key : {"reasoning", "reasoning_content"}) {
      ReadText(fields, message, key, where, [&](const std::string& v) { added->set_reasoning_content(v); });
    }
    ReadCalls(fields, message, where, added);
    if (!fields->status().ok()) return;
  }
}

void ReadTools(Fields* fields, OpenAiRequest* out) {
  const Json* tools = fields->Get("tools");
  if (tools != nullptr && !tools->is_array()) return fields->Wrong("tools", "a list");
  for (size_t i = 0; tools != nullptr && i < tools->size(); ++i) {
    const Json& tool = (*tools)[i];
    const Json* function = tool.is_object() ? Member(tool, "function") : nullptr;
    const bool named = function != nullptr && function->is_object() && Member(*function, "name") != nullptr &&
                       (*function)["name"].is_string();
    if (!named || tool.value("type", Json("function")) != "function") {
      return fields->Wrong("tools", fmt::format("functions with a name; tools[{}] is none", i));
    }
    out->tools.insert((*function)["name"].get<std::string>());
  }
  const Json* choice = fields->Get("tool_choice");
  if (choice != nullptr && *choice != "none" && *choice != "auto") {
    const bool known = *choice == "required" || (choice->is_object() && choice->value("type", Json()) == "function");
    if (!known) return fields->Wrong("tool_choice", "\"none\" or \"auto\"");
    return fields->Fail(
        WithCode(InvalidArgument("tool_choice: a call cannot be forced here, the model decides; send \"auto\" and say "
                                 "in a message that a tool must be used, or send \"none\""),
                 "unsupported_value", "tool_choice"));
  }
  fields->Only("parallel_tool_calls", {true});
  if (choice != nullptr && *choice == "none") out->tools.clear();
  if (!out->tools.empty()) out->generate.set_tools(Dump(*tools));
}

}  // namespace atl::coordinator
