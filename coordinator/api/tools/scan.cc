#include "coordinator/api/tools/scan.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "coordinator/chat_template/json_depth.h"

namespace atl::coordinator {
namespace {

using Json = nlohmann::ordered_json;

bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
  return text;
}

bool IsObject(std::string_view json) {
  return !json.empty() && json.front() == '{' && JsonDepth(json) <= kMaxJsonDepth && Json::accept(json);
}

// One value of an object or array that is known to be JSON: its text, and what follows it.
std::string_view TakeValue(std::string_view* rest) {
  const std::string_view text = *rest;
  size_t end = 0;
  if (text.front() == '{' || text.front() == '[') {
    Scan scan(text);
    end = scan.Json().size();
  } else if (text.front() == '"') {
    for (end = 1; text[end] != '"'; ++end) end += text[end] == '\\' ? 1 : 0;
    ++end;
  } else {
    while (text[end] != ',' && text[end] != '}' && text[end] != ']' && !IsSpace(text[end])) ++end;
  }
  rest->remove_prefix(end);
  return text.substr(0, end);
}

void SkipSpace(std::string_view* text) {
  while (!text->empty() && IsSpace(text->front())) text->remove_prefix(1);
}

}  // namespace

void Scan::Mark(std::string_view mark) {
  if (!ok()) return;
  const std::string_view rest = text_.substr(at_, mark.size());
  if (rest != mark.substr(0, rest.size())) return Fail();
  if (rest.size() < mark.size()) {
    state_ = Match::Kind::kMore;
  } else {
    at_ += mark.size();
  }
}

bool Scan::Maybe(std::string_view mark) {
  if (!ok()) return false;
  const size_t before = at_;
  Mark(mark);
  if (state_ == Match::Kind::kNone) state_ = Match::Kind::kCalls;
  return at_ != before;
}

void Scan::Space() {
  while (ok() && at_ < text_.size() && IsSpace(text_[at_])) ++at_;
}

std::string_view Scan::Until(std::string_view mark) {
  if (!ok()) return {};
  const size_t begin = at_, found = text_.find(mark, at_);
  if (found == std::string_view::npos) {
    state_ = Match::Kind::kMore;
    return {};
  }
  at_ = found + mark.size();
  return text_.substr(begin, found - begin);
}

char Scan::Next() {
  if (!ok()) return '\0';
  if (at_ < text_.size()) return text_[at_];
  state_ = Match::Kind::kMore;
  return '\0';
}

std::string_view Scan::Json() {
  const char first = Next();
  if (ok() && first != '{' && first != '[') Fail();
  if (!ok()) return {};
  const size_t begin = at_;
  int depth = 0;
  bool in_string = false;
  for (; at_ < text_.size(); ++at_) {
    const char c = text_[at_];
    if (in_string && c == '\\') {
      ++at_;
    } else if (c == '"') {
      in_string = !in_string;
    } else if (!in_string && (c == '{' || c == '[')) {
      ++depth;
    } else if (!in_string && (c == '}' || c == ']') && --depth == 0) {
      ++at_;
      return text_.substr(begin, at_ - begin);
    }
  }
  at_ = begin;
  state_ = Match::Kind::kMore;
  return {};
}

std::optional<std::string> ArgumentsOf(std::string_view json) {
  json = Trimmed(json);
  if (json.empty()) return "{}";
  if (!IsObject(json)) return std::nullopt;
  return std::string(json);
}

std::optional<ToolCall> CallOf(std::string_view json) {
  json = Trimmed(json);
  if (!IsObject(json)) return std::nullopt;
  ToolCall call;
  std::optional<std::string> arguments;
  std::string_view rest = json.substr(1);
  for (SkipSpace(&rest); rest.front() != '}'; SkipSpace(&rest)) {
    const auto key = Json::parse(TakeValue(&rest)).get<std::string>();
    SkipSpace(&rest);
    rest.remove_prefix(1);  // the colon
    SkipSpace(&rest);
    const std::string_view value = TakeValue(&rest);
    const bool text = value.front() == '"';
    if (key == "name" && text) call.name = Json::parse(value).get<std::string>();
    if (key == "id" && text) call.id = Json::parse(value).get<std::string>();
    if (key == "arguments" || key == "parameters") {
      arguments = ArgumentsOf(text ? Json::parse(value).get<std::string>() : std::string(value));
      if (!arguments) return std::nullopt;
    }
    SkipSpace(&rest);
    if (rest.front() == ',') rest.remove_prefix(1);
  }
  if (call.name.empty() || !arguments) return std::nullopt;
  call.arguments = *std::move(arguments);
  return call;
}

std::optional<std::vector<ToolCall>> CallsOf(std::string_view json) {
  json = Trimmed(json);
  const bool list = !json.empty() && json.front() == '[' && JsonDepth(json) <= kMaxJsonDepth;
  if (!list || !Json::accept(json)) return std::nullopt;
  std::vector<ToolCall> calls;
  std::string_view rest = json.substr(1);
  for (SkipSpace(&rest); rest.front() != ']'; SkipSpace(&rest)) {
    std::optional<ToolCall> call = CallOf(TakeValue(&rest));
    if (!call) return std::nullopt;
    calls.push_back(*std::move(call));
    SkipSpace(&rest);
    if (rest.front() == ',') rest.remove_prefix(1);
  }
  if (calls.empty()) return std::nullopt;
  return calls;
}

}  // namespace atl::coordinator
