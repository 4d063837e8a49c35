// Qwen3, SmolLM3 and the Hermes models: <tool_call>\n{"name": "f", "arguments": {...}}\n</tool_call>, one after the
// other.
#include "coordinator/api/tools/scan.h"

namespace atl::coordinator {

Match MatchHermes(std::string_view text, const Place&) {
  Scan scan(text);
  scan.Mark("<tool_call>");
  scan.Space();
  const std::string_view json = scan.Json();
  scan.Space();
  scan.Mark("</tool_call>");
  if (!scan.ok()) return scan.Failure();
  const std::optional<ToolCall> call = CallOf(json);
  return call ? Match::Calls(scan.at(), {*call}) : Match::None();
}

}  // namespace atl::coordinator
