// Whole tokenizers against what Hugging Face's `tokenizers`, tiktoken and tekken answer:
// tests/golden/tokenizer_tiny.jsonl (the shipped checkpoint's) and, where they are at hand, 200 texts each of seven
// published ones.
#include "coordinator/tokenizer/tokenizer.h"

#include <random>
#include <thread>

#include "tests/coordinator/tokenizer_golden.h"

namespace atl::coordinator {
namespace {

using nlohmann::json;

TEST(Tokenizer, TinyGolden) {
  const auto tokenizer = Load(kTinyModel);
  const auto lines = ReadJsonLines(kSource + "/tests/golden/tokenizer_tiny.jsonl");
  EXPECT_EQ(lines.size(), 139u);
  for (const json& line : lines) CheckGolden(*tokenizer, line);
}

class Published : public testing::TestWithParam<std::pair<const char*, const char*>> {};
INSTANTIATE_TEST_SUITE_P(, Published,
                         testing::Values(std::pair("deepseek_v3", "deepseek_v3/tokenizer.json.gz"),
                                         std::pair("qwen3", "qwen3/tokenizer.json.gz"),
                                         std::pair("gemma3", "gemma3/tokenizer.json.gz"),
                                         std::pair("llama3_1", "llama3_1/tokenizer.json.gz"),
                                         std::pair("gpt2", "gpt2.tiktoken.json.gz"),
                                         std::pair("cl100k_base", "cl100k_base.tiktoken.json.gz"),
                                         std::pair("mistral_tekken", "mistral_tekken_240718.json.gz")),
                         [](const auto& info) { return std::string(info.param.first); });

TEST_P(Published, Golden) {
  const auto& [name, file] = GetParam();
  SKIP_WITHOUT_SHARED("tokenizers/" + std::string(file));
  const auto tokenizer = Load(kShared + "/tokenizers/" + file);
  ASSERT_NE(tokenizer, nullptr);
  const auto lines = ReadJsonLines(kShared + "/golden/tokenizers/" + name + ".jsonl.gz");
  EXPECT_EQ(lines.size(), 200u);
  for (const json& line : lines) CheckGolden(*tokenizer, line);
}

// What a template or the chat API puts around texts.
TEST(Tokenizer, PublishedSpecialTokens) {
  SKIP_WITHOUT_SHARED("tokenizers/gemma3/tokenizer.json.gz");
  struct Case {
    const char* file;
    std::vector<std::pair<const char*, int32_t>> tokens;
    std::vector<int32_t> around_nothing;
    int64_t size;
  };
  const Case cases[] = {
      {"deepseek_v3/tokenizer.json.gz",
       {{"<｜begin▁of▁sentence｜>", 0},
        {"<｜User｜>", 128803},
        {"<｜Assistant｜>", 128804},
        {"<｜tool▁sep｜>", 128814}},
       {0},
       128815},
      {"qwen3/tokenizer.json.gz", {{"<|im_start|>", 151644}, {"<think>", 151667}, {"</think>", 151668}}, {}, 151669},
      {"gemma3/tokenizer.json.gz",
       {{"<start_of_turn>", 105}, {"<image_soft_token>", 262144}, {"▁the", 506}},
       {2},
       262145},
      {"llama3_1/tokenizer.json.gz", {{"<|reserved_special_token_0|>", 128002}, {"Ġthe", 279}}, {128000}, 128256},
      {"gpt2.tiktoken.json.gz", {{"<|endoftext|>", 50256}}, {}, 50257},
      {"cl100k_base.tiktoken.json.gz", {{"<|endofprompt|>", 100276}}, {}, 100277},
      {"mistral_tekken_240718.json.gz", {{"<s>", 1}, {"[INST]", 3}, {"[/SYSTEM_PROMPT]", 18}}, {1}, 131072},
  };
  for (const Case& c : cases) {
    const auto tokenizer = Load(kShared + "/tokenizers/" + c.file);
    for (const auto& [token, id] : c.tokens) {
      EXPECT_EQ(tokenizer->Find(token), id) << token;
      if (token[0] == '<' || token[0] == '[') {
        EXPECT_EQ(tokenizer->Encode(std::string("a") + token, {}).back(), id) << token;
        EXPECT_GT(tokenizer->Encode(token, {.parse_special = false}).size(), 1u) << token;
      }
    }
    EXPECT_EQ(tokenizer->Encode("", {.add_special = true}), c.around_nothing) << c.file;
    EXPECT_EQ(tokenizer->size(), c.size) << c.file;
  }
}

TEST(Tokenizer, EvalTextsRoundTrip) {
  const auto tokenizer = Load(kTinyModel);
  int texts = 0;
  for (const json& item : ReadJsonLines(kTinyModel + "/eval.jsonl")) {
    std::vector<std::string> all = {item.at("reference").get<std::string>()};
    for (const json& message : item.at("messages")) all.push_back(message.at("content").get<std::string>());
    for (const std::string& text : all) {
      const auto ids = tokenizer->Encode(text, {});
      EXPECT_EQ(tokenizer->Decode(ids, false), text);
      EXPECT_LT(ids.size(), text.size() + 1) << text;
      ++texts;
    }
  }
  EXPECT_GT(texts, 50);
}

TEST(Tokenizer, AddedTokensAndTheirOptions) {
  const auto t = Load(kTinyModel);
  const int32_t bos = t->Find("<｜begin▁of▁sentence｜>"), user = t->Find("<｜User｜>");
  EXPECT_EQ(bos, 0);
  EXPECT_GT(user, 0);
  EXPECT_EQ(t->Find("no such token"), -1);
  EXPECT_EQ(t->Find(""), -1);
  EXPECT_TRUE(t->IsSpecial(bos));
  EXPECT_FALSE(t->IsSpecial(-1));
  EXPECT_EQ(t->TokenBytes(1 << 30), "");
  EXPECT_EQ(t->Encode("<｜User｜>", {}), std::vector<int32_t>{user});
  EXPECT_EQ(t->Encode("<｜User｜>", {.add_special = true}), (std::vector<int32_t>{bos, user}));
  const auto plain = t->Encode("<｜User｜>", {.parse_special = false});
  EXPECT_GT(plain.size(), 1u);
  EXPECT_EQ(t->Decode(plain, true), "<｜User｜>");
  EXPECT_EQ(t->Decode(std::vector<int32_t>{bos, user}, true), t->IsSpecial(user) ? "" : "<｜User｜>");
}

TEST(Tokenizer, AnyBytesComeBack) {
  const auto t = Load(kTinyModel);
  const std::vector<std::string> parts = {
      "\xff", "\xc3",       "\xe2\x82", "\xf0\x9f\x98", "\x80", "é",       "😀", " ", "word",
      "\n",   "<｜User｜>", "<",        "\xed\xa0\x80", "1",    "\xc0\xaf"};
  std::mt19937 random(3);
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (int i = 0; i < 20; ++i) {
      text += random() % 4 != 0 ? parts[random() % parts.size()] : std::string(1, random() % 256);
    }
    std::string bytes;
    for (const int32_t id : t->Encode(text, {})) bytes += t->TokenBytes(id);
    ASSERT_EQ(bytes, text);
  }
}

// Texts that have no place to be cut. What takes time with the square of their length takes hours, and the test runs
// out of its time; how fast it is, tests/benchmarks says.
void CheckMegabytes(const Tokenizer& t) {
  std::mt19937 random(7);
  for (const std::string unit : {"a", "qu", " ", "<", "<｜", "日", "\xff", "\n", "thequickbrownfox", "random", "人"}) {
    std::string text;
    while (text.size() < 1'000'000) text += unit == "random" ? std::string(1, 'a' + random() % 26) : unit;
    const auto ids = t.Encode(text, {});
    if (unit != "\xff") {
      EXPECT_EQ(t.Decode(ids, false), text) << unit;
    }
  }
}

TEST(Tokenizer, AMegabyteWithoutASpace) { CheckMegabytes(*Load(kTinyModel)); }

TEST(Tokenizer, AMegabyteThroughGemmasWholeText) {
  SKIP_WITHOUT_SHARED("tokenizers/gemma3/tokenizer.json.gz");
  CheckMegabytes(*Load(kShared + "/tokenizers/gemma3/tokenizer.json.gz"));
}

// The cache of words is each thread's own while it encodes; what it holds must not show.
TEST(Tokenizer, ManyThreadsEncodeTheSame) {
  const auto t = Load(kTinyModel);
  std::mt19937 random(5);
  std::vector<std::string> texts;
  for (int i = 0; i < 200; ++i) {
    std::string text;
    for (int w = 0; w < 30; ++w) text += std::string(1 + random() % 9, static_cast<char>('a' + random() % 26)) + " é1";
    texts.push_back(text);
  }
  std::vector<std::vector<int32_t>> expected;
  for (const std::string& text : texts) expected.push_back(Load(kTinyModel)->Encode(text, {}));
  std::vector<std::thread> threads;
  for (int n = 0; n < 4; ++n) {
    threads.emplace_back([&, n] {
      for (size_t i = 0; i < 4 * texts.size(); ++i) {
        const size_t which = (i * 7 + n * 31) % texts.size();
        EXPECT_EQ(t->Encode(texts[which], {}), expected[which]);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace atl::coordinator
