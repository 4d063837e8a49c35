// DeepSeek: <｜tool▁calls▁begin｜>, then for each call
//   <｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\n{...}\n```<｜tool▁call▁end｜>      (V3, R1)
//   <｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{...}<｜tool▁call▁end｜>                              (V3.1)
// and <｜tool▁calls▁end｜>.
#include "coordinator/api/tools/scan.h"

namespace atl::coordinator {

Match MatchDeepseek(std::string_view text, const Place& place) {
  if (place.after_call) {
    Scan end(text);
    end.Mark("<｜tool▁calls▁end｜>");
    if (end.ok()) return Match::Calls(end.at(), {});
    if (end.more()) return Match::More();
  }
  Scan scan(text);
  if (scan.Maybe("<｜tool▁calls▁begin｜>")) scan.Space();
  scan.Mark("<｜tool▁call▁begin｜>");
  const std::string_view head = scan.Until("<｜tool▁sep｜>"), body = scan.Until("<｜tool▁call▁end｜>");
  if (!scan.ok()) return scan.Failure();
  constexpr std::string_view kFence = "\n```json\n", kEnd = "```";
  const size_t fence = body.find(kFence), end = body.rfind(kEnd);
  const bool fenced = fence != std::string_view::npos && end >= fence + kFence.size();
  const std::string_view name = fenced ? body.substr(0, fence) : head;
  const std::string_view json = fenced ? body.substr(fence + kFence.size(), end - fence - kFence.size()) : body;
  const std::optional<std::string> arguments = ArgumentsOf(json);
  if (!arguments || name.empty() || name.find('\n') != std::string_view::npos) return Match::None();
  return Match::Calls(scan.at(), {{std::string(name), *arguments, ""}});
}

}  // namespace atl::coordinator
