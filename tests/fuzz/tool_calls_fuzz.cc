// What a model says, of any bytes, through every form of tool calls: how it is cut into pieces changes nothing, and
// where no call is found the content is the text.
#include "coordinator/api/tools/parser.h"
#include "parallel/base/status.h"

using atl::coordinator::ToolCall;
using atl::coordinator::ToolForm;
using atl::coordinator::ToolParser;

namespace {

struct Parsed {
  std::string content, calls;
  bool operator==(const Parsed&) const = default;
};

Parsed Parse(const ToolForm* form, const std::string& text, size_t step) {
  ToolParser parser({form}, {"f", "get_weather"});
  Parsed parsed;
  const auto take = [&](const ToolParser::Piece& piece) {
    parsed.content += piece.content;
    for (const ToolCall& call : piece.calls) parsed.calls += call.name + "(" + call.arguments + ")" + call.id + ";";
  };
  for (size_t at = 0; at < text.size(); at += step) take(parser.Push(text.substr(at, step)));
  take(parser.Finish());
  return parsed;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<const ToolForm*> forms = atl::coordinator::ToolFormsOf(
      "<｜tool▁call▁begin｜> <tool_call> <|tool_call_begin|> [TOOL_CALLS] [func1(params_name "
      "{\"name\": function name, \"parameters\":");
  ATOLL_CHECK(forms.size() == 6, "{} forms", forms.size());
  if (size > 4096) return 0;
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const ToolForm* form : forms) {
    const Parsed whole = Parse(form, text, std::string::npos);
    ATOLL_CHECK(!whole.calls.empty() || whole.content == text, "{}: content is lost", form->name);
    for (const size_t step : {size_t{1}, size_t{7}}) {
      ATOLL_CHECK(Parse(form, text, step) == whole, "{}: pieces of {} bytes say something else", form->name, step);
    }
  }
  return 0;
}
