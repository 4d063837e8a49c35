// Llama 4 (and 3.2): the whole answer is [f(a=1, b="x"), g()] in Python's notation, perhaps between
// <|python_start|> and <|python_end|>. Nothing else marks it, so it must be the beginning of the answer and name tools
// that the client offers.
#include <nlohmann/json.hpp>

#include "coordinator/api/tools/scan.h"
#include "coordinator/tokenizer/unicode.h"

namespace atl::coordinator {
namespace {

constexpr int kMaxDepth = 32;

bool IsWord(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

// Python's literals as JSON.
class Python {
 public:
  explicit Python(Scan* scan) : scan_(*scan) {}

  // name(key=value, ...), with the name after dots allowed: tools may be called "a.b".
  ToolCall Call() {
    ToolCall call;
    call.name = Word(/*dots=*/true);
    scan_.Mark("(");
    call.arguments = "{" +
                     List(')',
                          [&] {
                            const std::string key = Word(/*dots=*/false);
                            scan_.Space();
                            scan_.Mark("=");
                            return nlohmann::json(key).dump() + ": " + Value(1);
                          }) +
                     "}";
    return call;
  }

  // What stands before `end`, which is read too: items with commas between them.
  template <typename Item>
  std::string List(char end, const Item& item) {
    std::string list;
    while (true) {
      scan_.Space();
      if (scan_.Next() == end) break;
      if (!scan_.ok()) return "";
      list += (list.empty() ? "" : ", ") + item();
      scan_.Space();
      if (scan_.Next() == ',') {
        scan_.Skip(1);
      } else if (scan_.Next() != end) {
        if (scan_.ok()) scan_.Fail();
        return "";
      }
    }
    scan_.Skip(1);
    return list;
  }

 private:
  std::string Word(bool dots) {
    std::string word;
    scan_.Space();
    while (IsWord(scan_.Next()) || (dots && (scan_.Next() == '.' || scan_.Next() == '-'))) {
      word += scan_.Next();
      scan_.Skip(1);
    }
    if (scan_.ok() && word.empty()) scan_.Fail();
    return word;
  }

  std::string Value(int depth) {
    scan_.Space();
    const char first = scan_.Next();
    if (!scan_.ok()) return "";
    if (depth > kMaxDepth) scan_.Fail();
    if (first == '"' || first == '\'') return String();
    if (first == '[' || first == '(') {
      scan_.Skip(1);
      return "[" + List(first == '[' ? ']' : ')', [&] { return Value(depth + 1); }) + "]";
    }
    if (first == '{') {
      scan_.Skip(1);
      return "{" +
             List('}',
                  [&] {
                    const char quote = scan_.Next();
                    if (quote != '"' && quote != '\'') scan_.Fail();
                    const std::string key = String();
                    scan_.Space();
                    scan_.Mark(":");
                    return key + ": " + Value(depth + 1);
                  }) +
             "}";
    }
    return Scalar();
  }

  std::string Scalar() {
    std::string text;
    for (char c = scan_.Next(); IsWord(c) || c == '.' || c == '-' || c == '+'; c = scan_.Next()) {
      text += c;
      scan_.Skip(1);
    }
    if (text == "True") text = "true";
    if (text == "False") text = "false";
    if (text == "None") text = "null";
    if (scan_.ok() && !nlohmann::json::accept(text)) scan_.Fail();
    return text;
  }

  std::string String() {
    const char quote = scan_.Next();
    scan_.Skip(1);
    std::string text;
    for (char c = scan_.Next(); scan_.ok() && c != quote; c = scan_.Next()) {
      scan_.Skip(1);
      if (c == '\\') {
        Escape(&text);
      } else {
        text += c;
      }
    }
    if (scan_.ok()) scan_.Skip(1);
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }

  // After the backslash.
  void Escape(std::string* text) {
    const char c = scan_.Next();
    if (!scan_.ok()) return;
    scan_.Skip(1);
    constexpr std::string_view kNames = "ntrbf\\'\"", kMeanings = "\n\t\r\b\f\\'\"";
    if (const size_t known = kNames.find(c); known != std::string_view::npos) {
      *text += kMeanings[known];
    } else if (c == 'u' || c == 'x') {
      uint32_t code = 0;
      for (int digits = c == 'u' ? 4 : 2; digits > 0; --digits) {
        const char digit = scan_.Next();
        if (scan_.ok() && std::isxdigit(static_cast<unsigned char>(digit)) == 0) scan_.Fail();
        if (!scan_.ok()) return;
        code = code * 16 + static_cast<uint32_t>(digit <= '9' ? digit - '0' : (digit | 32) - 'a' + 10);
        scan_.Skip(1);
      }
      AppendUtf8(code >= 0xd800 && code < 0xe000 ? 0xfffd : code, text);
    } else {  // Python keeps it
      *text += '\\';
      *text += c;
    }
  }

  Scan& scan_;
};

}  // namespace

Match MatchPythonic(std::string_view text, const Place& place) {
  if (place.after_call) {
    Scan end(text);
    end.Mark("<|python_end|>");
    if (end.ok()) return Match::Calls(end.at(), {});
    return end.Failure();
  }
  if (!place.at_start) return Match::None();
  Scan scan(text);
  if (!scan.Maybe("<|python_start|>")) scan.Maybe("<|python_tag|>");
  scan.Space();
  scan.Mark("[");
  std::vector<ToolCall> calls;
  Python python(&scan);
  python.List(']', [&] {
    calls.push_back(python.Call());
    if (scan.ok() && !place.tools->contains(calls.back().name)) scan.Fail();
    return std::string("call");
  });
  if (!scan.ok()) return scan.Failure();
  return calls.empty() ? Match::None() : Match::Calls(scan.at(), std::move(calls));
}

}  // namespace atl::coordinator
