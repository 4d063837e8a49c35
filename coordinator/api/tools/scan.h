// What the forms are written with: a text that is still growing, read from its beginning.
//
//   Scan scan(text);
//   scan.Mark("<tool_call>");                       // must come next
//   const std::string_view json = scan.Json();      // one object or array
//   scan.Space(); scan.Mark("</tool_call>");
//   if (!scan.ok()) return scan.Failure();          // kMore where the text ended too soon, kNone where it is another
//   ... scan.at() bytes were read
//
// After the first failure every read gives nothing.
#pragma once

#include <optional>
#include <string_view>

#include "coordinator/api/tools/form.h"

namespace atl::coordinator {

class Scan {
 public:
  explicit Scan(std::string_view text) : text_(text) {}

  bool ok() const { return state_ == Match::Kind::kCalls; }
  bool more() const { return state_ == Match::Kind::kMore; }
  size_t at() const { return at_; }
  Match Failure() const { return more() ? Match::More() : Match::None(); }

  void Mark(std::string_view mark);               // these bytes
  bool Maybe(std::string_view mark);              // these bytes or not; false where they are not there
  void Space();                                   // white space, or none
  std::string_view Until(std::string_view mark);  // what is before the mark; both are read
  std::string_view Json();                        // an object or an array: from its bracket to the one that ends it
  char Next();                                    // the next byte, which stays
  void Skip(size_t bytes) { at_ += bytes; }       // bytes that Next has shown
  void Fail() { state_ = Match::Kind::kNone; }    // it is another text
  std::string_view From(size_t begin) const { return text_.substr(begin, at_ - begin); }

 private:
  std::string_view text_;
  size_t at_ = 0;
  Match::Kind state_ = Match::Kind::kCalls;
};

// A JSON object as a call's arguments, as it was written; nullopt where it is none. Nothing at all is an empty object.
std::optional<std::string> ArgumentsOf(std::string_view json);
// {"name": "...", "arguments": {...}} ("parameters" is "arguments" too, and a JSON object in a string is one), with an
// "id" if there is one; nullopt where it is something else.
std::optional<ToolCall> CallOf(std::string_view json);
// A list of such objects, at least one.
std::optional<std::vector<ToolCall>> CallsOf(std::string_view json);

}  // namespace atl::coordinator
