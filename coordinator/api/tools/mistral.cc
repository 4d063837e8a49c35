// Mistral: [TOOL_CALLS][{"name": "f", "arguments": {...}, "id": "..."}, ...] (Small 3 and 3.1), and of later models
// [TOOL_CALLS]f[ARGS]{...} for each call, perhaps with [CALL_ID]... before the arguments.
#include "coordinator/api/tools/scan.h"

namespace atl::coordinator {

Match MatchMistral(std::string_view text, const Place&) {
  Scan scan(text);
  scan.Mark("[TOOL_CALLS]");
  scan.Space();
  if (scan.Next() == '[') {
    const std::string_view json = scan.Json();
    if (!scan.ok()) return scan.Failure();
    const auto calls = CallsOf(json);
    return calls ? Match::Calls(scan.at(), *calls) : Match::None();
  }
  std::string_view name = scan.Until("[ARGS]");
  scan.Space();
  const std::string_view json = scan.Json();
  if (!scan.ok()) return scan.Failure();
  constexpr std::string_view kId = "[CALL_ID]";
  const size_t mark = name.find(kId);
  const std::string_view id = mark == std::string_view::npos ? "" : name.substr(mark + kId.size());
  name = name.substr(0, mark);
  const std::optional<std::string> arguments = ArgumentsOf(json);
  if (!arguments || name.empty()) return Match::None();
  return Match::Calls(scan.at(), {{std::string(name), *arguments, std::string(id)}});
}

}  // namespace atl::coordinator
