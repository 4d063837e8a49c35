// The hand-written scanners cut where PCRE2 cuts by the same expressions, on random Unicode; and where the published
// tokenizers of Kimi K2 and Llama 4 cut.
#include <unicode/uchar.h>

#include <random>

#include "coordinator/tokenizer/scanners.h"
#include "coordinator/tokenizer/unicode.h"
#include "tests/coordinator/tokenizer_golden.h"

namespace atl::coordinator {
namespace {

std::vector<std::string> Cut(const std::string& text, const std::vector<Span>& spans) {
  std::vector<std::string> pieces;
  for (const Span& span : spans) pieces.push_back(text.substr(span.begin, span.size()));
  return pieces;
}

std::vector<std::string> ByScanner(const Expressions& expressions, const std::string& text) {
  std::vector<Span> spans;
  ScannerFor(expressions)(text, 0, &spans);
  return Cut(text, spans);
}

// One expression after the other, each seeing only its piece.
std::vector<std::string> ByPcre2(const std::vector<Matcher>& matchers, const std::string& text) {
  std::vector<Span> spans = {{0, text.size()}};
  if (text.empty()) spans.clear();
  for (const Matcher& matcher : matchers) {
    std::vector<Span> finer, matches;
    for (const Span& span : spans) {
      matcher.Find(std::string_view(text).substr(span.begin, span.size()), &matches);
      size_t done = span.begin;
      for (const Span& match : matches) {
        if (done < span.begin + match.begin) finer.push_back({done, span.begin + match.begin});
        finer.push_back({span.begin + match.begin, done = span.begin + match.end});
      }
      if (done < span.end) finer.push_back({done, span.end});
    }
    spans = std::move(finer);
  }
  return Cut(text, spans);
}

// Characters that ICU and PCRE2 see alike: those of Unicode 14, which PCRE2 10.42 knows.
const std::vector<std::vector<uint32_t>>& CharactersByCategory() {
  static const auto characters = [] {
    std::vector<std::vector<uint32_t>> all(U_CHAR_CATEGORY_COUNT);
    for (UChar32 c = 0; c < 0x110000; ++c) {
      UVersionInfo age;
      u_charAge(c, age);
      if (u_charType(c) != U_SURROGATE && (age[0] <= 14 && age[0] > 0)) all[u_charType(c)].push_back(c);
    }
    std::erase_if(all, [](const auto& category) { return category.empty(); });
    return all;
  }();
  return characters;
}

std::string RandomText(std::mt19937* random) {
  const std::vector<std::string> parts = {
      " ",      "  ",     "\n",     "\r\n",   "\t", " \n ",   "'s", "'S",     "'re",     "'VE", "'ll", "'ſ",   "'",
      "the",    "Word",   "ALL",    "mIx",    "12", "1234",   ".",  "...",    "/",       "//",  "!a",  "#é",   "日",
      "本語",   "かな",   "カ・ー", "々",     "〇", "、",     "⺀", "\u0301", "e\u0301", "ª",   "ʰ",   "ǅ",    "ß",
      "\u180e", "\u00a0", "\u3000", "\u0085", "😀",  "\u200d", "½",  "٣",      "_",       "(",   ")\n", "\x01", "\x7f"};
  const auto& categories = CharactersByCategory();
  std::string text;
  for (unsigned n = (*random)() % 24; n > 0; --n) {
    if ((*random)() % 3) {
      text += parts[(*random)() % parts.size()];
    } else {
      const auto& category = categories[(*random)() % categories.size()];
      for (unsigned i = 1 + (*random)() % 3; i > 0; --i) AppendUtf8(category[(*random)() % category.size()], &text);
    }
  }
  return text;
}

struct Named {
  const char* name;
  const Expressions& (*expressions)();
};
const Named kAll[] = {{"gpt2", Gpt2Expressions},     {"digits_gpt2", DigitsGpt2Expressions},
                      {"cl100k", Cl100kExpressions}, {"qwen2", Qwen2Expressions},
                      {"o200k", O200kExpressions},   {"tekken", TekkenExpressions},
                      {"kimi", KimiK2Expressions},   {"deepseek", DeepSeekV3Expressions}};

class Scanners : public testing::TestWithParam<Named> {};
INSTANTIATE_TEST_SUITE_P(, Scanners, testing::ValuesIn(kAll),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(Scanners, CutWherePcre2Cuts) {
  const Expressions& expressions = GetParam().expressions();
  std::vector<Matcher> matchers;
  for (const std::string& expression : expressions) {
    auto matcher = Matcher::Regex(expression, Dialect::kRust);
    ASSERT_TRUE(matcher.ok()) << matcher.status();
    matchers.push_back(*matcher);
  }
  std::mt19937 random(19);
  for (int round = 0; round < 20000; ++round) {
    const std::string text = RandomText(&random);
    ASSERT_EQ(ByScanner(expressions, text), ByPcre2(matchers, text)) << testing::PrintToString(text);
  }
  // Every character that both know, alone, before a letter and after a space.
  for (const auto& category : CharactersByCategory()) {
    for (const uint32_t c : category) {
      std::string text;
      AppendUtf8(c, &text);
      text = " " + text + "a" + text + "'s";
      ASSERT_EQ(ByScanner(expressions, text), ByPcre2(matchers, text)) << std::hex << c;
    }
  }
}

// A long text is scanned in one pass, whatever it is made of: twice the text, about twice the time.
TEST_P(Scanners, AreLinear) {
  for (const std::string unit :
       {"a", "A", " ", "\n", "1", "日", "か・", ".", "\u0301", "ªA", "a'", "\x01", " \n", "🇳"}) {
    std::string text;
    while (text.size() < 4'000'000) text += unit;
    const auto begin = std::chrono::steady_clock::now();
    std::vector<Span> spans;
    ScannerFor(GetParam().expressions())(text, 0, &spans);
    EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(), 5) << unit;
    EXPECT_EQ(spans.back().end, text.size());
  }
}

TEST(ScannerFor, KnowsOtherSpellings) {
  EXPECT_EQ(ScannerFor({"a+"}), nullptr);
  EXPECT_EQ(ScannerFor({}), nullptr);
  std::string literal = Cl100kExpressions()[0];  // [^\r\n...] with the characters themselves
  literal.replace(literal.find("\\r\\n"), 4, "\r\n");
  EXPECT_EQ(ScannerFor({literal}), ScannerFor(Cl100kExpressions()));
  EXPECT_NE(ScannerFor(Qwen2Expressions()), ScannerFor(Cl100kExpressions()));
}

void CheckPublishedPieces(const std::string& name, const Expressions& expressions) {
  const auto lines = ReadJsonLines(kShared + "/golden/tokenizers/" + name);
  EXPECT_EQ(lines.size(), 200u);
  for (const auto& line : lines) {
    EXPECT_EQ(ByScanner(expressions, line.at("text")), line.at("pieces").get<std::vector<std::string>>()) << line;
  }
}

TEST(PublishedPieces, KimiK2) {
  SKIP_WITHOUT_SHARED("golden/tokenizers/split_kimi_k2.jsonl.gz");
  CheckPublishedPieces("split_kimi_k2.jsonl.gz", KimiK2Expressions());
}

TEST(PublishedPieces, Llama4) {
  SKIP_WITHOUT_SHARED("golden/tokenizers/split_llama4.jsonl.gz");
  CheckPublishedPieces("split_llama4.jsonl.gz", O200kExpressions());
}

}  // namespace
}  // namespace atl::coordinator
