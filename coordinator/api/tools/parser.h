// Tool calls out of a model's text, as it comes.
//
//   ToolParser parser(ToolFormsOf(chat_template.source()), {"get_weather"});
//   ToolParser::Piece piece = parser.Push(text);      // content that is no call, and calls that are whole
//   ... parser.Finish()                               // what was held back: a call that never ended is content
//
// A call comes out when its last byte has, never in parts: one that turns out to be malformed can then still be passed
// on as content, byte for byte. White space around calls is the form's, not content; text before, between and after
// them is content. How the text is cut into pieces changes nothing.
#pragma once

#include "coordinator/api/tools/form.h"

namespace atl::coordinator {

class ToolParser {
 public:
  struct Piece {
    std::string content;
    std::vector<ToolCall> calls;
  };

  ToolParser(std::vector<const ToolForm*> forms, std::set<std::string> tools)
      : forms_(std::move(forms)), tools_(std::move(tools)) {}

  Piece Push(const std::string& text);
  Piece Finish();

 private:
  Piece Advance(bool end);

  const std::vector<const ToolForm*> forms_;
  const std::set<std::string> tools_;
  std::string held_;
  bool at_start_ = true, after_call_ = false;
};

}  // namespace atl::coordinator
