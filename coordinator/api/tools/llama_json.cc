// Llama 3: the whole answer is {"name": "f", "parameters": {...}}, perhaps after <|python_tag|>, several with "; "
// between them. Nothing marks it, so it must be the beginning of the answer and name a tool that the client offers.
#include "coordinator/api/tools/scan.h"

namespace atl::coordinator {

Match MatchLlamaJson(std::string_view text, const Place& place) {
  if (!place.at_start && !place.after_call) return Match::None();
  Scan scan(text);
  if (place.after_call) {
    scan.Mark(";");
    scan.Space();
  }
  if (scan.Maybe("<|python_tag|>")) scan.Space();
  const std::string_view json = scan.Json();
  if (!scan.ok()) return scan.Failure();
  const std::optional<ToolCall> call = CallOf(json);
  return call && place.tools->contains(call->name) ? Match::Calls(scan.at(), {*call}) : Match::None();
}

}  // namespace atl::coordinator
