#include "coordinator/api/tools/parser.h"

#include <algorithm>

namespace atl::coordinator {

ToolParser::Piece ToolParser::Push(const std::string& text) {
  held_ += text;
  return Advance(/*end=*/false);
}

ToolParser::Piece ToolParser::Finish() { return Advance(/*end=*/true); }

ToolParser::Piece ToolParser::Advance(bool end) {
  Piece piece;
  size_t at = 0;
  while (at < held_.size()) {
    // White space at the start and after a call belongs to what follows.
    size_t space = 0;
    if (at_start_ || after_call_) {
      space = std::min(held_.find_first_not_of(" \n\t\r", at), held_.size()) - at;
    }
    if (at + space == held_.size()) {
      if (!end) break;
      if (!after_call_) piece.content.append(held_, at);
      at = held_.size();
      break;
    }
    const std::string_view text = std::string_view(held_).substr(at + space);
    Match found;
    bool more = false;
    for (const ToolForm* form : forms_) {
      found = form->match(text, {at_start_, after_call_, &tools_});
      if (found.kind == Match::Kind::kCalls) break;
      more = more || found.kind == Match::Kind::kMore;
    }
    if (found.kind == Match::Kind::kCalls) {
      piece.calls.insert(piece.calls.end(), found.calls.begin(), found.calls.end());
      at += space + found.length;
      at_start_ = false;
      after_call_ = true;
      continue;
    }
    if (more && !end) break;
    piece.content.append(held_, at, space + 1);
    at += space + 1;
    at_start_ = after_call_ = false;
  }
  held_.erase(0, at);
  return piece;
}

}  // namespace atl::coordinator
