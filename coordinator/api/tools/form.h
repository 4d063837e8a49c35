// The forms in which models write tool calls into their answers, one file each.
//
//   for (const ToolForm* form : ToolFormsOf(chat_template.source())) {
//     const Match match = form->match(text, place);      // does a call begin where `text` begins?
//   }
//
// A form looks at the beginning of a text and says: no call begins here; more text is needed to tell; or the first
// `length` bytes are these calls. Whatever it does not take is content, so nothing a model says is ever lost.
// To add one: a file in this folder with its function, declared here, and its line in table.cc.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace atl::coordinator {

struct ToolCall {
  std::string name;
  std::string arguments;  // a JSON object, as the model wrote it
  std::string id;         // the model's own; empty: none
};

// Where the text stands in the answer.
struct Place {
  bool at_start = false;                         // only white space before it
  bool after_call = false;                       // only white space between it and a call
  const std::set<std::string>* tools = nullptr;  // that the client offers
};

struct Match {
  enum class Kind { kNone, kMore, kCalls };
  Kind kind = Kind::kNone;
  size_t length = 0;
  std::vector<ToolCall> calls;  // may be empty: a mark that ends a list of calls

  static Match None() { return {}; }
  static Match More() { return {.kind = Kind::kMore, .length = 0, .calls = {}}; }
  static Match Calls(size_t length, std::vector<ToolCall> calls) {
    return {.kind = Kind::kCalls, .length = length, .calls = std::move(calls)};
  }
};

struct ToolForm {
  const char* name;
  std::vector<const char*> in_template;  // a chat template that holds one of these asks the model for this form
  std::vector<const char*> specials;     // tokens that mark calls and that decoding would hide where they are special
  Match (*match)(std::string_view text, const Place& place);
};

// Those that a chat template asks for; none: its model's calls stay text.
std::vector<const ToolForm*> ToolFormsOf(const std::string& template_source);

// What the files of this folder define.
Match MatchDeepseek(std::string_view text, const Place& place);
Match MatchHermes(std::string_view text, const Place& place);
Match MatchKimi(std::string_view text, const Place& place);
Match MatchLlamaJson(std::string_view text, const Place& place);
Match MatchMistral(std::string_view text, const Place& place);
Match MatchPythonic(std::string_view text, const Place& place);

}  // namespace atl::coordinator
