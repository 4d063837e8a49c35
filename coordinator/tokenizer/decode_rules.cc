#include "coordinator/tokenizer/decode_rules.h"

namespace atl::coordinator {

std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  size_t done = 0;
  for (size_t at = text.find(from); at != std::string_view::npos; at = text.find(from, done)) {
    out.append(text, done, at - done).append(to);
    done = at + from.size();
  }
  return out.append(text, done);
}

std::string ApplySteps(const std::vector<TokenStep>& steps, std::string_view token, bool first) {
  std::string text(token);
  for (const TokenStep& step : steps) {
    if (step.kind == TokenStep::kStrip) {
      std::string_view rest = text;
      for (size_t n = 0; n < step.strip.left && rest.starts_with(step.strip.text); ++n) {
        rest.remove_prefix(step.strip.text.size());
      }
      for (size_t n = 0; n < step.strip.right && rest.ends_with(step.strip.text); ++n) {
        rest.remove_suffix(step.strip.text.size());
      }
      text = std::string(rest);
    } else {
      text = ReplaceAll(text, step.from, first && step.kind == TokenStep::kDropInFirst ? "" : step.to);
    }
  }
  return text;
}

}  // namespace atl::coordinator
