// The parts a tokenizer is made of, each against the plainest way to do the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "coordinator/tokenizer/added_tokens.h"
#include "coordinator/tokenizer/bpe.h"
#include "coordinator/tokenizer/normalizer.h"
#include "coordinator/tokenizer/pre_tokenizer.h"
#include "coordinator/tokenizer/unicode.h"
#include "coordinator/tokenizer/utf8.h"

namespace atl::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Utf8, EveryCodePointAndNothingElse) {
  for (uint32_t c = 0; c < 0x200000; ++c) {
    std::string s;
    AppendUtf8(c, &s);
    const bool character = c <= 0x10ffff && !(c >= 0xd800 && c < 0xe000);
    const Utf8Part part = Utf8At(s, 0);
    ASSERT_EQ(part.kind == Utf8::kWhole && part.bytes == s.size(), character) << c;
    if (character) {
      ASSERT_EQ(DecodeUtf8(s.data()).value, c);
      ASSERT_EQ(DecodeUtf8(s.data()).bytes, s.size());
    }
    for (size_t cut = 1; character && cut < s.size(); ++cut) {
      ASSERT_EQ(Utf8At(s.substr(0, cut), 0).kind, Utf8::kCut) << c;
      ASSERT_EQ(Utf8At(s.substr(0, cut) + "a", 0).kind, Utf8::kInvalid) << c;
      ASSERT_EQ(Utf8At(s.substr(0, cut) + "a", 0).bytes, cut) << c;
    }
  }
  EXPECT_EQ(Utf8At("\xc0\x80", 0).kind, Utf8::kInvalid);      // overlong
  EXPECT_EQ(Utf8At("\xe0\x80\x80", 0).kind, Utf8::kInvalid);  // overlong
}

TEST(Utf8, EndOfWhatIsWhole) {
  EXPECT_EQ(Utf8End("", 0), 0u);
  EXPECT_EQ(Utf8End("0123456789é0123456789", 0), 22u);
  for (size_t at = 0; at < 20; ++at) {
    std::string text(20, 'a');
    text[at] = '\xff';
    EXPECT_EQ(Utf8End(text, 0), at);
    EXPECT_EQ(Utf8End(text, at), at);
    EXPECT_EQ(Utf8End(text, at + 1), 20u);
  }
  EXPECT_EQ(Utf8End("aaaaaaa\xc3", 0), 7u);
}

TEST(CharClasses, SomeOfEach) {
  const CharClasses& classes = CharClasses::Get();
  EXPECT_EQ(classes.Of('a'), kLetter | kLowerish | kWord);
  EXPECT_EQ(classes.Of('_'), kPunctuation | kWord);
  EXPECT_EQ(classes.Of('\n'), kSpace | kNewline);
  EXPECT_EQ(classes.Of(0x85), kSpace);
  EXPECT_EQ(classes.Of(0x180e), 0);                         // no space since Unicode 6.3
  EXPECT_EQ(classes.Of(0x3007), kNumber | kHan | kWord);    // 〇
  EXPECT_EQ(classes.Of(0x3001), kPunctuation);              // 、 is Han in Script_Extensions only
  EXPECT_EQ(classes.Of(0x30fb), kPunctuation | kCjkRange);  // ・
  EXPECT_EQ(classes.Of(0x301), kMark | kUpperish | kLowerish | kWord);
  EXPECT_EQ(classes.Of(0x1c5), kLetter | kUpperish | kWord);  // ǅ
  EXPECT_EQ(classes.Of(0x10ffff), 0);
}

TEST(AddedTokens, TheLongestWins) {
  AddedTokens added;
  ASSERT_TRUE(added.Add({.text = "<a", .id = 1}).ok());
  ASSERT_TRUE(added.Add({.text = "<abc>", .id = 2}).ok());
  const auto ids = [&](const std::string& text) {
    std::vector<AddedTokens::Part> parts;
    added.Split(text, &parts);
    std::vector<std::pair<int32_t, std::string>> found;
    for (const auto& part : parts) found.emplace_back(part.id, text.substr(part.begin, part.end - part.begin));
    return found;
  };
  using Pair = std::pair<int32_t, std::string>;
  EXPECT_THAT(ids("x<abc>y<abc"),
              ElementsAre(Pair(-1, "x"), Pair(2, "<abc>"), Pair(-1, "y"), Pair(1, "<a"), Pair(-1, "bc")));
  EXPECT_THAT(ids("<<a"), ElementsAre(Pair(-1, "<"), Pair(1, "<a")));
  EXPECT_THAT(ids(""), ElementsAre());
  EXPECT_EQ(added.Find("<ab"), -1);
  EXPECT_EQ(added.Find("<a"), 1);
  EXPECT_FALSE(added.Add({.text = "", .id = 3}).ok());
  EXPECT_THAT(ToString(added.Add({.text = "<a", .id = 3}).message()), HasSubstr("1 and 3 are both \"<a\""));
}

// One merge at a time: the best rank anywhere, the leftmost of it.
struct Merge {
  int32_t rank, merged;
};
std::vector<int32_t> PlainMerges(std::vector<int32_t> symbols,
                                 const std::map<std::pair<int32_t, int32_t>, Merge>& merges) {
  while (true) {
    int32_t best = INT32_MAX, merged = 0;
    size_t where = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = merges.find({symbols[i], symbols[i + 1]});
      if (found != merges.end() && found->second.rank < best) {
        best = found->second.rank, merged = found->second.merged, where = i;
      }
    }
    if (best == INT32_MAX) return symbols;
    symbols[where] = merged;
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(where) + 1);
  }
}

// Few symbols and many; ranks in any order, and shared ones as SentencePiece has them.
TEST(MergeSymbols, EqualsOneMergeAtATime) {
  std::mt19937 random(17);
  MergeMemory memory;
  for (int round = 0; round < 60; ++round) {
    std::map<std::pair<int32_t, int32_t>, Merge> merges;
    PairTable table;
    std::vector<size_t> lengths = {1, 1, 1};  // of what each symbol stands for
    const int32_t ranks = round % 3 == 0 ? 5 : 1000;
    for (int i = 0; i < 40; ++i) {
      const auto left = static_cast<int32_t>(random() % lengths.size()),
                 right = static_cast<int32_t>(random() % lengths.size());
      if (lengths[left] + lengths[right] > 9 || merges.contains({left, right})) continue;
      const Merge merge{static_cast<int32_t>(random() % ranks), static_cast<int32_t>(lengths.size())};
      lengths.push_back(lengths[left] + lengths[right]);
      merges[{left, right}] = merge;
      table.Put(left, right, {merge.rank, merge.merged});
    }
    for (int text = 0; text < 40; ++text) {
      std::vector<int32_t> symbols(random() % (text % 4 ? 60 : 400));
      for (int32_t& symbol : symbols) symbol = static_cast<int32_t>(random() % 3);
      const std::vector<int32_t> expected = PlainMerges(symbols, merges);
      symbols.resize(MergeSymbols(table, symbols.data(), symbols.size(), &memory));
      ASSERT_EQ(symbols, expected);
    }
  }
}

// "ab", "abc"... of characters: with and without the cuts where nothing can join, cached and not.
TEST(Bpe, CutsAndCachesChangeNothing) {
  std::mt19937 random(23);
  const std::string letters = "abcdéé日▁";
  for (int round = 0; round < 20; ++round) {
    BpeParts parts;
    parts.units = BpeUnits::kCharacters;
    std::vector<std::string> tokens = {"a", "b", "c", "d", "é", "日", "▁"};
    for (size_t i = 0; i < tokens.size(); ++i) {
      ASSERT_TRUE(parts.vocabulary.Add(static_cast<int64_t>(i), tokens[i]).ok());
    }
    std::map<std::pair<int32_t, int32_t>, Merge> merges;
    for (int i = 0; i < 12; ++i) {
      const auto left = static_cast<int32_t>(random() % tokens.size()),
                 right = static_cast<int32_t>(random() % tokens.size());
      const std::string both = tokens[left] + tokens[right];
      if (both.size() > 12 || parts.vocabulary.Find(both) >= 0) continue;
      const auto id = static_cast<int32_t>(tokens.size());
      ASSERT_TRUE(parts.vocabulary.Add(id, both).ok());
      tokens.push_back(both);
      merges[{left, right}] = {i, id};
      parts.merges.Put(left, right, {i, id});
    }
    const auto bpe = Bpe::Make(std::move(parts));
    ASSERT_TRUE(bpe.ok()) << bpe.status();
    Bpe::Memory memory;
    for (int text = 0; text < 200; ++text) {
      std::string piece;
      std::vector<int32_t> symbols;
      for (unsigned n = random() % 40; n > 0; --n) {
        symbols.push_back(static_cast<int32_t>(random() % 7));
        piece += tokens[symbols.back()];
      }
      std::vector<int32_t> ids;
      bpe->Encode(piece, piece.data() + piece.size(), &memory, &ids);
      ASSERT_EQ(ids, PlainMerges(symbols, merges)) << piece;
    }
  }
}

BpeParts AbParts() {
  BpeParts parts;
  for (const char* token : {"a", "b", "ab", "<unk>"}) (void)parts.vocabulary.Add(parts.vocabulary.size(), token);
  return parts;
}

std::vector<int32_t> EncodeWith(BpeParts parts, const std::string& piece) {
  const auto bpe = Bpe::Make(std::move(parts));
  EXPECT_TRUE(bpe.ok()) << bpe.status();
  Bpe::Memory memory;
  std::vector<int32_t> ids, again;
  bpe->Encode(piece, piece.data() + piece.size(), &memory, &ids);
  bpe->Encode(piece, piece.data() + piece.size(), &memory, &again);  // from the cache
  EXPECT_EQ(ids, again);
  return ids;
}

TEST(Bpe, IgnoreMergesTakesAWholeToken) {
  BpeParts parts = AbParts();
  EXPECT_THAT(EncodeWith(parts, "ab"), ElementsAre(0, 1));  // no merge leads there
  parts.ignore_merges = true;
  EXPECT_THAT(EncodeWith(parts, "ab"), ElementsAre(2));
  EXPECT_THAT(EncodeWith(parts, "aab"), ElementsAre(0, 0, 1));
}

TEST(Bpe, UnknownUnits) {
  BpeParts parts = AbParts();
  parts.merges.Put(0, 1, {0, 2});
  EXPECT_THAT(EncodeWith(parts, "axb"), ElementsAre(2)) << "without an unknown token they are nothing";
  parts.unknown = 3;
  EXPECT_THAT(EncodeWith(parts, "axxb"), ElementsAre(0, 3, 3, 1));
  parts.fuse_unknown = true;
  EXPECT_THAT(EncodeWith(parts, "axxbx"), ElementsAre(0, 3, 1, 3));
  parts.byte_tokens['y'] = 1;
  EXPECT_THAT(EncodeWith(parts, "xyxa"), ElementsAre(1, 3, 0)) << "a byte overtakes the unknown, as in Hugging Face's";
}

TEST(Bpe, SentencePiecesExtraCharacters) {
  BpeParts parts;
  parts.units = BpeUnits::kCharacters;
  parts.bytes_never_merge = true;
  ASSERT_TRUE(parts.vocabulary.Add(0, "ab").ok());
  for (int byte = 0; byte < 256; ++byte) {
    ASSERT_TRUE(parts.vocabulary.Add(1 + byte, fmt::format("<0x{:02X}>", byte)).ok());
    parts.byte_tokens[byte] = 1 + byte;
  }
  parts.extra_characters = {'a', 'b'};  // 257, 258
  parts.merges.Put(257, 258, {0, 0});
  EXPECT_THAT(EncodeWith(parts, "abba"), ElementsAre(0, 1 + 'b', 1 + 'a'));
  EXPECT_THAT(EncodeWith(parts, "aéb"), ElementsAre(1 + 'a', 1 + 0xc3, 1 + 0xa9, 1 + 'b'));
}

TEST(Bpe, RefusesMergesOutsideOfTheVocabulary) {
  for (const auto& [left, right, merged] : {std::tuple(0, 9, 2), std::tuple(9, 0, 2), std::tuple(0, 1, 9)}) {
    BpeParts parts = AbParts();
    parts.merges.Put(left, right, {0, merged});
    EXPECT_FALSE(Bpe::Make(std::move(parts)).ok());
  }
}

TEST(Vocabulary, FindsWhatWasAdded) {
  Vocabulary words;
  for (int64_t id = 0; id < 5000; ++id) {
    ASSERT_TRUE(words.Add(3 * id, std::string(id % 7, 'x') + std::to_string(id)).ok());
  }
  for (int64_t id = 0; id < 5000; ++id) {
    ASSERT_EQ(words.Find(std::string(id % 7, 'x') + std::to_string(id)), 3 * id);
    ASSERT_EQ(words.Token(static_cast<int32_t>(3 * id)), std::string(id % 7, 'x') + std::to_string(id));
    ASSERT_FALSE(words.Has(static_cast<int32_t>(3 * id + 1)));
  }
  EXPECT_EQ(words.Find("none"), -1);
  EXPECT_EQ(words.Token(-1), "");
  EXPECT_EQ(words.count(), 5000);
  EXPECT_THAT(ToString(words.Add(0, "new").message()), HasSubstr("id 0 stands for two tokens"));
  EXPECT_THAT(ToString(words.Add(1, "0").message()), HasSubstr("two ids, 0 and 1"));
  EXPECT_THAT(ToString(words.Add(-1, "new").message()), HasSubstr("-1"));
  EXPECT_THAT(ToString(words.Add(int64_t{1} << 40, "new").message()), HasSubstr("1099511627776"));
}

std::string Translated(const std::string& expression, Dialect dialect = Dialect::kRust) {
  return ForPcre2(expression, dialect).value_or("refused");
}

TEST(Expression, IsTranslatedForPcre2) {
  EXPECT_EQ(Translated(R"(\\s[\[\\s\s]a\/b$)"), R"(\\s[\[\\s\t-\r\x{85}\p{Z}]a\/b\z)");
  EXPECT_EQ(Translated(R"([^]x]\p{L}\P{Lu}\p{^N})"), R"([^\]x]\p{L}\P{Lu}\P{N})");
  EXPECT_EQ(Translated(R"(\p{Han}a{,3}(?i:x)(?=y)(?<!z))"), R"(\p{sc:Han}a{0,3}(?i:x)(?=y)(?<!z))");
  EXPECT_EQ(Translated(R"([\p{L}&&[^\p{Han}]]+)"), R"((?:(?![\p{sc:Han}])[\p{L}])+)");
  EXPECT_EQ(Translated(R"([^a-z&&[aeiou]&&b-y])"), R"((?:(?!(?=[aeiou])(?=[b-y])[a-z])(?s:.)))");
  EXPECT_EQ(Translated("^a$", Dialect::kOniguruma), "(?m)^a$");
}

TEST(Expression, WhatIsNotKnownToMeanTheSameIsRefused) {
  for (const char* expression : {R"(\bx)",    R"(a\G)",  R"(\R)",   R"(\X)",   R"(\1)",  R"(\k<a>)",    "(?<a>b)",
                                 "(?#x)",     "(?(1)a)", "(?s:.)",  "(*FAIL)", "[a[b]]", "[[:alpha:]]", "[a",
                                 "[a&&",      "[a&&[b]", "[a&&]",   R"(\p{L)", R"(\pL)", R"(\p{Any})",  R"(\p{X})",
                                 R"(\p{L&})", R"(\xff)", R"(\x{})", "a{x}",    "{",      R"([\W])",     R"(\)"}) {
    EXPECT_FALSE(Matcher::Regex(expression, Dialect::kRust).ok()) << expression;
  }
  EXPECT_FALSE(Matcher::Regex("a{1,2}+", Dialect::kOniguruma).ok());
  EXPECT_TRUE(Matcher::Regex("a{1,2}+", Dialect::kRust).ok());
  EXPECT_THAT(ToString(Matcher::Regex("(a", Dialect::kRust).status().message()), HasSubstr("offset 2"));
}

std::vector<std::string> Pieces(const Expressions& expressions, const std::string& text) {
  PreTokenizer steps;
  const absl::Status status = steps.AddIsolating(expressions, Dialect::kOniguruma);
  EXPECT_TRUE(status.ok()) << status;
  PreTokenized out;
  steps.Run(text, true, &out);
  std::vector<std::string> pieces;
  for (const Span& piece : out.pieces) pieces.emplace_back(out.text.substr(piece.begin, piece.size()));
  return pieces;
}

TEST(PreTokenizer, IsolatesAndSeesNothingOutsideOfItsPiece) {
  EXPECT_THAT(Pieces({R"(\p{N}{1,3})"}, "ab12345c"), ElementsAre("ab", "123", "45", "c"));
  EXPECT_THAT(Pieces({R"(\p{N})", R"((?<!1)a|^b)"}, "1a1b"), ElementsAre("1", "a", "1", "b"));
  EXPECT_THAT(Pieces({R"(\p{N})", R"((?<=1)xy)", "x"}, "1xy"), ElementsAre("1", "x", "y"));
  EXPECT_THAT(Pieces({"x*"}, "abxxé"),
              ElementsAre("a", "b", "xx", "é"));  // an empty match parts what it stands between
  EXPECT_THAT(Pieces({}, ""), ElementsAre());
  EXPECT_THAT(Pieces({R"(\s+)"}, "a \u00a0\u3000\u0085b\u180ec"), ElementsAre("a", " \u00a0\u3000\u0085", "b\u180ec"));
  EXPECT_THAT(Pieces({R"([^\s]+)"}, "a\u180e b"), ElementsAre("a\u180e", " ", "b"));
  EXPECT_THAT(Pieces({R"([\S]+)"}, "a\u180e b"), ElementsAre("a\u180e", " ", "b"));
}

TEST(Normalizer, GivesTheTextItselfWhereNothingChanges) {
  Normalizer nfc;
  ASSERT_TRUE(nfc.AddForm("NFC").ok());
  EXPECT_FALSE(nfc.AddForm("NFX").ok());
  std::string buffer;
  const std::string ascii = "plain", composed = "\u00e9", apart = "e\u0301 x";
  EXPECT_EQ(nfc.Apply(ascii, &buffer).data(), ascii.data());
  EXPECT_EQ(nfc.Apply(composed, &buffer).data(), composed.data());
  EXPECT_EQ(nfc.Apply(apart, &buffer), "\u00e9 x");
}

}  // namespace
}  // namespace atl::coordinator
