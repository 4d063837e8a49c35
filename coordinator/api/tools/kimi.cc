// Kimi K2: <|tool_calls_section_begin|>, then for each call
//   <|tool_call_begin|>functions.NAME:INDEX<|tool_call_argument_begin|>{...}<|tool_call_end|>
// and <|tool_calls_section_end|>. What stands before the arguments is the call's id, which the model expects to see
// again.
#include "coordinator/api/tools/scan.h"

namespace atl::coordinator {

Match MatchKimi(std::string_view text, const Place& place) {
  if (place.after_call) {
    Scan end(text);
    end.Mark("<|tool_calls_section_end|>");
    if (end.ok()) return Match::Calls(end.at(), {});
    if (end.more()) return Match::More();
  }
  Scan scan(text);
  if (scan.Maybe("<|tool_calls_section_begin|>")) scan.Space();
  scan.Mark("<|tool_call_begin|>");
  std::string_view id = scan.Until("<|tool_call_argument_begin|>");
  const std::string_view json = scan.Until("<|tool_call_end|>");
  if (!scan.ok()) return scan.Failure();
  while (!id.empty() && id.back() == ' ') id.remove_suffix(1);
  while (!id.empty() && id.front() == ' ') id.remove_prefix(1);
  constexpr std::string_view kSpace = "functions.";
  const std::string_view name = id.substr(id.starts_with(kSpace) ? kSpace.size() : 0);
  const std::optional<std::string> arguments = ArgumentsOf(json);
  ToolCall call{std::string(name.substr(0, name.rfind(':'))), arguments.value_or(""), std::string(id)};
  if (!arguments || call.name.empty()) return Match::None();
  return Match::Calls(scan.at(), {std::move(call)});
}

}  // namespace atl::coordinator
