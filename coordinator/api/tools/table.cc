#include "coordinator/api/tools/form.h"

namespace atl::coordinator {
namespace {

const ToolForm kForms[] = {
    {"deepseek", {"<｜tool▁call▁begin｜>"}, {}, MatchDeepseek},
    {"hermes", {"<tool_call>"}, {"<tool_call>", "</tool_call>"}, MatchHermes},
    {"kimi",
     {"<|tool_call_begin|>"},
     {"<|tool_calls_section_begin|>", "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>",
      "<|tool_calls_section_end|>"},
     MatchKimi},
    {"llama_json", {"{\"name\": function name, \"parameters\":"}, {"<|python_tag|>"}, MatchLlamaJson},
    {"mistral", {"[TOOL_CALLS]"}, {"[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"}, MatchMistral},
    {"pythonic",
     {"[func1(params_name", "[func_name1(params_name"},
     {"<|python_tag|>", "<|python_start|>", "<|python_end|>"},
     MatchPythonic},
};

}  // namespace

std::vector<const ToolForm*> ToolFormsOf(const std::string& template_source) {
  std::vector<const ToolForm*> forms;
  for (const ToolForm& form : kForms) {
    for (const char* mark : form.in_template) {
      if (template_source.find(mark) == std::string::npos) continue;
      forms.push_back(&form);
      break;
    }
  }
  return forms;
}

}  // namespace atl::coordinator
