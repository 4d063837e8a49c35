#include "coordinator/tokenizer/expression.h"

#include <algorithm>
#include <cctype>
#include <string_view>
#include <vector>

namespace atl::coordinator {
namespace {

// Members of classes: White_Space and what is not; \w, to which each engine adds something of its own.
constexpr std::string_view kSpaceMembers = R"(\t-\r\x{85}\p{Z})";
constexpr std::string_view kNoSpaceMembers =
    R"(\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027})"
    R"(\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";
constexpr std::string_view kWordMembers = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
constexpr std::string_view kRustWords = R"(\x{200c}\x{200d})";
constexpr std::string_view kOnigurumaWords = R"(\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";  // ² ³ ¹ ¼ ½ ¾, outside of classes
constexpr std::string_view kHexMembers = "0-9A-Fa-f";

bool IsCategory(std::string_view name) {
  static constexpr std::string_view kCategories[] = {
      "C",  "Cc", "Cf", "Cn", "Co", "Cs", "L",  "Ll", "Lm", "Lo", "Lt", "Lu", "M",  "Mc", "Me", "Mn", "N",  "Nd", "Nl",
      "No", "P",  "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S",  "Sc", "Sk", "Sm", "So", "Z",  "Zl", "Zp", "Zs"};
  return std::find(std::begin(kCategories), std::end(kCategories), name) != std::end(kCategories);
}

class Translator {
 public:
  Translator(std::string_view source, Dialect dialect) : source_(source), dialect_(dialect) {}

  absl::StatusOr<std::string> Run() {
    std::string out = dialect_ == Dialect::kOniguruma ? "(?m)" : "";
    while (!AtEnd()) {
      const char c = Peek();
      std::string piece;
      if (c == '\\') {
        ATOLL_ASSIGN_OR_RETURN(piece, Escape(/*in_class=*/false));
      } else if (c == '[') {
        ATOLL_ASSIGN_OR_RETURN(piece, Class());
      } else if (c == '(') {
        ATOLL_ASSIGN_OR_RETURN(piece, GroupBegin());
      } else if (c == '{') {
        ATOLL_ASSIGN_OR_RETURN(piece, Interval());
      } else if (c == '$' && dialect_ == Dialect::kRust) {
        piece = R"(\z)";
        ++at_;
      } else {
        piece = std::string(1, c);
        ++at_;
      }
      out += piece;
    }
    return out;
  }

 private:
  bool AtEnd() const { return at_ >= source_.size(); }
  char Peek() const { return source_[at_]; }
  bool Take(std::string_view text) {
    if (source_.substr(at_, text.size()) != text) return false;
    at_ += text.size();
    return true;
  }
  template <typename... Args>
  absl::Status Refuse(fmt::format_string<Args...> format, Args&&... args) const {
    return Unimplemented("the expression \"{}\" has {} at offset {}, which is not supported", source_,
                         fmt::format(format, std::forward<Args>(args)...), at_);
  }

  // From the backslash on. Inside of a class: its members; outside: a whole item.
  absl::StatusOr<std::string> Escape(bool in_class) {
    if (at_ + 1 == source_.size()) return Refuse("a backslash as its end");
    const char c = source_[at_ + 1];
    const auto members = [&](std::string_view yes) {
      at_ += 2;
      return in_class ? std::string(yes) : fmt::format("[{}]", yes);
    };
    const std::string word = fmt::format("{}{}", kWordMembers,
                                         dialect_ == Dialect::kRust ? kRustWords
                                         : in_class                 ? ""
                                                                    : kOnigurumaWords);
    switch (c) {
      case 's':
        return members(kSpaceMembers);
      case 'S':
        return members(kNoSpaceMembers);
      case 'd':
        return members(R"(\p{Nd})");
      case 'D':
        return members(R"(\P{Nd})");
      case 'w':
        return members(word);
      case 'W':
        if (in_class) return Refuse("\\W in a class");
        at_ += 2;
        return fmt::format("[^{}]", word);
      case 'h':
        if (dialect_ == Dialect::kRust) return Refuse("\\h");
        return members(kHexMembers);
      case 'v':
        return members(R"(\x{b})");
      case 'p':
      case 'P':
        return Property();
      case 'x':
        return Hexadecimal();
      case 'A':
      case 'z':
        if (in_class) return Refuse("\\{}", c);
        break;
      case 'a':
      case 'f':
      case 'n':
      case 'r':
      case 't':
        break;
      default:
        if (std::isalnum(static_cast<uint8_t>(c))) return Refuse("\\{}", c);
    }
    at_ += 2;
    return std::string{'\\', c};
  }

  absl::StatusOr<std::string> Property() {
    bool negated = source_[at_ + 1] == 'P';
    const size_t close = source_.find('}', at_);
    if (source_.substr(at_ + 2, 1) != "{" || close == std::string_view::npos) return Refuse("\\p without {{name}}");
    std::string_view name = source_.substr(at_ + 3, close - at_ - 3);
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    for (const char c : name) {
      if (!std::isalnum(static_cast<uint8_t>(c)) && c != '_') return Refuse("\\p{{{}}}", name);
    }
    // What is no category is taken for a script, which PCRE2 knows or refuses.
    const bool plain = IsCategory(name) || name == "Alphabetic" || name == "White_Space";
    if (!plain && name.size() < 3) return Refuse("\\p{{{}}}", name);
    at_ = close + 1;
    return fmt::format("\\{}{{{}{}}}", negated ? 'P' : 'p', plain ? "" : "sc:", name);
  }

  absl::StatusOr<std::string> Hexadecimal() {
    const bool braces = source_.substr(at_ + 2, 1) == "{";
    const size_t begin = at_ + (braces ? 3 : 2);
    size_t end = begin;
    const size_t most = braces ? source_.size() : std::min(source_.size(), begin + 2);
    while (end < most && std::isxdigit(static_cast<uint8_t>(source_[end])) != 0) ++end;
    const std::string digits(source_.substr(begin, end - begin));
    if (digits.empty() || digits.size() > 6 || (braces && source_.substr(end, 1) != "}")) return Refuse("this \\x");
    if (!braces && std::stoul(digits, nullptr, 16) > 0x7f) return Refuse("a \\x that is a byte");
    at_ = end + (braces ? 1 : 0);
    return fmt::format("\\x{{{}}}", digits);
  }

  absl::StatusOr<std::string> GroupBegin() {
    if (Take("(*")) return Refuse("(*");
    if (!Take("(?")) {
      ++at_;
      return std::string("(");
    }
    for (const std::string_view kind : {":", "i:", "i)", "-i:", "=", "!", "<=", "<!", ">"}) {
      if (Take(kind)) return fmt::format("(?{}", kind);
    }
    return Refuse("an unknown kind of group");
  }

  absl::StatusOr<std::string> Interval() {
    const size_t close = source_.find('}', at_);
    const std::string_view inside = close == std::string_view::npos ? "" : source_.substr(at_ + 1, close - at_ - 1);
    if (inside.empty() || inside == "," || inside.find_first_not_of("0123456789,") != std::string_view::npos) {
      return Refuse("a {{ that begins no interval");
    }
    at_ = close + 1;
    // Rust's is possessive, Oniguruma's a repetition of the repetition.
    if (!AtEnd() && Peek() == '+' && dialect_ == Dialect::kOniguruma) return Refuse("a + after an interval");
    return fmt::format("{{{}{}}}", inside.front() == ',' ? "0" : "", inside);
  }

  // [a&&[^b]&&...]: `a` where the others hold too.
  absl::StatusOr<std::string> Class() {
    ++at_;
    const bool negated = Take("^");
    ATOLL_ASSIGN_OR_RETURN(const std::string first, Members(/*first=*/true));
    std::string conditions;
    while (Take("&&")) {
      if (Take("[")) {
        const bool without = Take("^");
        ATOLL_ASSIGN_OR_RETURN(const std::string members, Members(/*first=*/true));
        if (!Take("]")) return Refuse("a class inside of a class");
        conditions += fmt::format("(?{}[{}])", without ? '!' : '=', members);
      } else {
        ATOLL_ASSIGN_OR_RETURN(const std::string members, Members(/*first=*/false));
        if (members.empty()) return Refuse("an intersection with nothing");
        conditions += fmt::format("(?=[{}])", members);
      }
    }
    if (!Take("]")) return Refuse("{}", AtEnd() ? "a class without an end" : "a class inside of a class");
    if (conditions.empty()) return fmt::format("[{}{}]", negated ? "^" : "", first);
    if (first.empty()) return Refuse("an intersection with nothing");
    const std::string both = fmt::format("{}[{}]", conditions, first);
    return negated ? fmt::format("(?:(?!{})(?s:.))", both) : fmt::format("(?:{})", both);
  }

  // Up to "]", "[" or "&&".
  absl::StatusOr<std::string> Members(bool first) {
    std::string out;
    for (; !AtEnd(); first = false) {
      const char c = Peek();
      if ((c == ']' && !first) || c == '[' || source_.substr(at_, 2) == "&&") break;
      if (c == '\\') {
        ATOLL_ASSIGN_OR_RETURN(const std::string members, Escape(/*in_class=*/true));
        out += members;
      } else {
        out += c == ']' ? "\\]" : std::string(1, c);
        ++at_;
      }
    }
    return out;
  }

  const std::string_view source_;
  const Dialect dialect_;
  size_t at_ = 0;
};

}  // namespace

absl::StatusOr<std::string> ForPcre2(const std::string& expression, Dialect dialect) {
  return Translator(expression, dialect).Run();
}

}  // namespace atl::coordinator
