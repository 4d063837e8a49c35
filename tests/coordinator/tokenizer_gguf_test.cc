// Tokenizers from GGUF's metadata: small ones by hand, and the published ones put into that form where they are at
// hand.
#include <gmock/gmock.h>

#include <random>

#include "coordinator/tokenizer/formats/gguf.h"
#include "tests/coordinator/tokenizer_golden.h"

namespace atl::coordinator {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::unique_ptr<Tokenizer> Make(const GgufTokenizerMetadata& metadata) {
  auto tokenizer = LoadGgufTokenizer(metadata);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? std::move(tokenizer).value() : nullptr;
}

// <s>, a user's token, 256 byte tokens, then pieces with their scores.
GgufTokenizerMetadata SentencePiece(const std::vector<std::pair<std::string, float>>& pieces) {
  GgufTokenizerMetadata m;
  m.model = "llama";
  m.tokens = {"<s>", "<unk>", "[x y]"};
  m.token_types = {3, 2, 4};
  for (int byte = 0; byte < 256; ++byte) {
    m.tokens.push_back(fmt::format("<0x{:02X}>", byte));
    m.token_types.push_back(6);
  }
  m.scores.resize(m.tokens.size(), 0);
  for (const auto& [piece, score] : pieces) {
    m.tokens.push_back(piece);
    m.token_types.push_back(1);
    m.scores.push_back(score);
  }
  m.bos_id = 0;
  m.unknown_id = 1;
  return m;
}

std::vector<std::string> Spelled(const GgufTokenizerMetadata& m, const std::vector<int32_t>& ids) {
  std::vector<std::string> tokens;
  for (const int32_t id : ids) tokens.push_back(m.tokens[id]);
  return tokens;
}

TEST(Gguf, SentencePieceMergesByScore) {
  const GgufTokenizerMetadata m =
      SentencePiece({{"▁", -9}, {"a", -9}, {"b", -9}, {"ab", -2}, {"ba", -1}, {"▁ab", -3}, {"xy", -4}});
  const auto t = Make(m);
  const auto encoded = [&](const std::string& text) { return Spelled(m, t->Encode(text, {})); };
  EXPECT_THAT(encoded("ab"), ElementsAre("▁ab"));
  EXPECT_THAT(encoded("aba"), ElementsAre("▁", "a", "ba"));  // "ba" is better than "ab"
  EXPECT_THAT(encoded(" ab"), ElementsAre("▁", "▁ab"));      // one space of the text, one that is put before it
  EXPECT_THAT(encoded("xy"), ElementsAre("▁", "xy"));        // of characters that are no tokens
  EXPECT_THAT(encoded("x"), ElementsAre("▁", "<0x78>"));     // and one that is left over
  EXPECT_THAT(encoded("é"), ElementsAre("▁", "<0xC3>", "<0xA9>"));
  EXPECT_THAT(encoded("\xff"), ElementsAre("<0xFF>"));
  EXPECT_THAT(encoded("a[x y]b"), ElementsAre("▁", "a", "[x y]", "▁", "b"));
  EXPECT_THAT(encoded("<s>"), ElementsAre("<s>"));
  EXPECT_THAT(Spelled(m, t->Encode("", {.add_special = true})), ElementsAre("<s>"));
  EXPECT_EQ(t->Decode(t->Encode("ab é ab", {}), true), "ab é ab");
  EXPECT_EQ(t->Decode(t->Encode("a[x y]b", {}), true), "a[x y] b");  // as SentencePiece's own
  EXPECT_EQ(Streamed(*t, t->Encode("ab é", {.add_special = true}), true), "ab é");
}

TEST(Gguf, EqualScoresMergeFromTheLeft) {
  GgufTokenizerMetadata m = SentencePiece({{"a", -9}, {"b", -9}, {"ab", -1}, {"ba", -1}, {"aa", -1}});
  m.add_space_prefix = false;
  m.add_bos = false;
  const auto t = Make(m);
  EXPECT_THAT(Spelled(m, t->Encode("aba", {.add_special = true})), ElementsAre("ab", "a"));
  EXPECT_THAT(Spelled(m, t->Encode("baaa", {})), ElementsAre("ba", "aa"));
}

// One merge at a time over characters, as llama.cpp describes it: the best score, the leftmost of it.
TEST(Gguf, SentencePieceEqualsOneMergeAtATime) {
  std::mt19937 random(29);
  for (int round = 0; round < 20; ++round) {
    std::vector<std::pair<std::string, float>> pieces;
    for (int i = 0; i < 40; ++i) {
      std::string piece;
      for (unsigned n = 1 + random() % 5; n > 0; --n) piece += static_cast<char>('a' + random() % 4);
      if (std::none_of(pieces.begin(), pieces.end(), [&](const auto& p) { return p.first == piece; })) {
        pieces.emplace_back(piece, -static_cast<float>(random() % 20));
      }
    }
    GgufTokenizerMetadata m = SentencePiece(pieces);
    m.add_space_prefix = false;
    const auto t = Make(m);
    for (int text = 0; text < 50; ++text) {
      std::vector<std::string> parts;
      std::string whole;
      for (unsigned n = random() % 30; n > 0; --n) parts.emplace_back(1, static_cast<char>('a' + random() % 4));
      for (const std::string& part : parts) whole += part;
      while (true) {
        float best = -1e9;
        size_t where = parts.size();
        for (size_t i = 0; i + 1 < parts.size(); ++i) {
          for (const auto& [piece, score] : pieces) {
            if (piece == parts[i] + parts[i + 1] && score > best) best = score, where = i;
          }
        }
        if (where == parts.size()) break;
        parts[where] += parts[where + 1];
        parts.erase(parts.begin() + static_cast<ptrdiff_t>(where) + 1);
      }
      std::vector<std::string> expected;
      for (const std::string& part : parts) {
        const bool token = std::any_of(pieces.begin(), pieces.end(), [&](const auto& p) { return p.first == part; });
        expected.push_back(token ? part : fmt::format("<0x{:02X}>", part[0]));
      }
      ASSERT_EQ(Spelled(m, t->Encode(whole, {})), expected) << whole;
    }
  }
}

GgufTokenizerMetadata ByteLevel(const std::string& pre) {
  GgufTokenizerMetadata m;
  m.model = "gpt2";
  m.pre = pre;
  m.tokens = {"<|end|>", "1", "2", "a", "b", "Ġ", "ab", "12", "Ġa", "<think>"};
  m.token_types = {3, 1, 1, 1, 1, 1, 1, 1, 1, 4};
  m.merges = {"a b", "1 2", "Ġ a"};
  return m;
}

TEST(Gguf, ByteLevelByMerges) {
  const GgufTokenizerMetadata m = ByteLevel("gpt-2");
  const auto t = Make(m);
  EXPECT_THAT(Spelled(m, t->Encode("ab 12 a12<think><|end|>", {})),
              ElementsAre("ab", "Ġ", "12", "Ġa", "12", "<think>", "<|end|>"));
  EXPECT_EQ(t->Decode(t->Encode("ab 12<think><|end|>", {}), true), "ab 12<think>");
  EXPECT_EQ(t->Find("Ġa"), 8);
  EXPECT_EQ(t->Find("<think>"), 9);
  EXPECT_THAT(Spelled(m, Make(ByteLevel("smollm"))->Encode("12", {})), ElementsAre("1", "2"));
  EXPECT_THAT(Spelled(m, Make(ByteLevel("qwen2"))->Encode("12", {})), ElementsAre("1", "2"));
  EXPECT_THAT(Spelled(m, Make(ByteLevel("deepseek-v3"))->Encode("12", {})), ElementsAre("12"));
  EXPECT_THAT(Spelled(m, Make(ByteLevel("default"))->Encode("ab 12", {})), ElementsAre("ab", "Ġ", "12"));
}

TEST(Gguf, BosByPreTokenizerUnlessTheFileSaysSo) {
  GgufTokenizerMetadata m = ByteLevel("llama-bpe");
  m.bos_id = m.eos_id = 0;
  EXPECT_THAT(Make(m)->Encode("a", {.add_special = true}), ElementsAre(0, 3));
  m.add_bos = false;
  m.add_eos = true;
  EXPECT_THAT(Make(m)->Encode("a", {.add_special = true}), ElementsAre(3, 0));
  m.pre = "qwen2";
  m.add_eos.reset();
  EXPECT_THAT(Make(m)->Encode("a", {.add_special = true}), ElementsAre(3));
}

TEST(Gguf, SaysWhatIsWrong) {
  const auto message = [](const std::function<void(GgufTokenizerMetadata*)>& change, bool byte_level = true) {
    GgufTokenizerMetadata m = byte_level ? ByteLevel("gpt-2") : SentencePiece({{"a", -1}});
    change(&m);
    return ToString(LoadGgufTokenizer(m).status().message());
  };
  EXPECT_THAT(message([](auto* m) { m->model = "bert"; }), HasSubstr("\"bert\""));
  EXPECT_THAT(message([](auto* m) { m->pre = "viking"; }), HasSubstr("\"viking\""));
  EXPECT_THAT(message([](auto* m) { m->tokens.clear(); }), HasSubstr("empty"));
  EXPECT_THAT(message([](auto* m) { m->token_types.pop_back(); }), HasSubstr("10 tokens have 9 types"));
  EXPECT_THAT(message([](auto* m) { m->merges.clear(); }), HasSubstr("merges is missing"));
  EXPECT_THAT(message([](auto* m) { m->merges.push_back("ab"); }), HasSubstr("merge 3 is \"ab\""));
  EXPECT_THAT(message([](auto* m) { m->merges.push_back(""); }), HasSubstr("merge 3"));
  EXPECT_THAT(message([](auto* m) { m->merges.push_back("a a"); }), HasSubstr("merge 3 joins"));
  EXPECT_THAT(message([](auto* m) { m->tokens[4] = "a"; }), HasSubstr("two ids"));
  EXPECT_THAT(message([](auto* m) { m->add_bos = true; }), HasSubstr("not given"));
  EXPECT_THAT(message([](auto* m) { m->add_bos = true, m->bos_id = 99; }), HasSubstr("99"));
  EXPECT_THAT(message([](auto* m) { m->scores.pop_back(); }, false), HasSubstr("scores"));
  EXPECT_THAT(message([](auto* m) { m->scores.back() = NAN; }, false), HasSubstr("not a number"));
  EXPECT_THAT(message([](auto* m) { m->tokens[5] = "<0xZZ>"; }, false), HasSubstr("<0xZZ>"));
  EXPECT_THAT(message([](auto* m) { m->tokens.back() = "\xff"; }, false), HasSubstr("not UTF-8"));
  EXPECT_THAT(message([](auto* m) { m->token_types[7] = 1, m->unknown_id.reset(); }, false), HasSubstr("byte tokens"));
}

// A tokenizer.json in GGUF's form.
GgufTokenizerMetadata FromHf(const std::string& name, const std::string& model, const std::string& pre) {
  const auto text = ReadMaybeGzipped(kShared + "/tokenizers/" + name + "/tokenizer.json.gz");
  const json file = json::parse(text.value_or("{}"));
  GgufTokenizerMetadata m;
  m.model = model;
  m.pre = pre;
  const auto set = [&](const std::string& token, size_t id, GgufTokenType type) {
    if (id >= m.tokens.size()) m.tokens.resize(id + 1), m.token_types.resize(id + 1, 5);
    m.tokens[id] = token;
    m.token_types[id] = static_cast<int32_t>(type);
  };
  for (const auto& [token, id] : file["model"]["vocab"].items()) {
    const bool byte = model == "llama" && token.size() == 6 && token.starts_with("<0x");
    set(token, id.get<size_t>(), byte ? GgufTokenType::kByte : GgufTokenType::kNormal);
  }
  for (const json& token : file["added_tokens"]) {
    const bool special = token["special"].get<bool>();
    // Converters write the spaces of SentencePiece's user-defined tokens as spaces.
    const auto content = token["content"].get<std::string>();
    set(model == "llama" ? ReplaceAll(content, "▁", " ") : content, token["id"],
        special ? GgufTokenType::kControl : GgufTokenType::kUserDefined);
  }
  for (const json& merge : file["model"]["merges"]) {
    m.merges.push_back(merge.is_string() ? merge.get<std::string>()
                                         : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  for (size_t id = 0; id < m.tokens.size(); ++id) m.scores.push_back(-static_cast<float>(id));
  m.add_bos = false;
  return m;
}

void CheckPublished(const std::string& name, const std::string& model, const std::string& pre, size_t least,
                    const std::function<bool(const json&)>& skip) {
  SKIP_WITHOUT_SHARED("tokenizers/" + name + "/tokenizer.json.gz");
  GgufTokenizerMetadata m = FromHf(name, model, pre);
  m.add_space_prefix = false;
  const auto t = Make(m);
  size_t checked = 0;
  for (const json& line : ReadJsonLines(kShared + "/golden/tokenizers/" + name + ".jsonl.gz")) {
    if (skip(line)) continue;
    CheckGolden(*t, line);
    ++checked;
  }
  EXPECT_GE(checked, least);
}

TEST(GgufPublished, DeepSeekV3) {
  CheckPublished("deepseek_v3", "gpt2", "deepseek-v3", 200, [](const json&) { return false; });
}
TEST(GgufPublished, Llama3) {
  CheckPublished("llama3_1", "gpt2", "llama-bpe", 200, [](const json&) { return false; });
}
// The format does not know of NFC: only texts that it leaves as they are.
TEST(GgufPublished, Qwen3) {
  CheckPublished("qwen3", "gpt2", "qwen2", 100, [](const json& line) { return line.at("text") != line.at("decoded"); });
}
// By scores instead of merges. A "▁" in the text itself is a token of its own to the one and a space to the other.
TEST(GgufPublished, Gemma3) {
  CheckPublished("gemma3", "llama", "default", 190,
                 [](const json& line) { return line.at("text").get<std::string>().find("▁") != std::string::npos; });
}

}  // namespace
}  // namespace atl::coordinator
