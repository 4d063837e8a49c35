// Decoding token by token: no half character, no wrong space, and in the end what decoding at once gives.
#include <gmock/gmock.h>

#include <random>

#include "coordinator/tokenizer/formats/parse.h"
#include "tests/coordinator/tokenizer_golden.h"

namespace atl::coordinator {
namespace {

using nlohmann::json;

TEST(StreamDecoder, HoldsWhatMayBecomeACharacter) {
  const auto t = Load(kTinyModel);
  const auto byte = [&](const std::string& b) { return t->Encode(b, {}).at(0); };
  StreamDecoder d(t.get());
  EXPECT_EQ(d.Push(byte("\xf0")), "");
  EXPECT_EQ(d.Push(t->Find("<｜end▁of▁sentence｜>")), "");  // hidden, and between two halves
  EXPECT_EQ(d.Push(byte("\x9f")), "");
  EXPECT_EQ(d.Push(byte("\x98")), "");
  EXPECT_EQ(d.Push(byte("\x80")), "😀");
  EXPECT_EQ(d.Push(byte("\xe2")), "");
  EXPECT_EQ(d.Push(byte("a")), "\ufffda");  // it did not become one
  EXPECT_EQ(d.Push(byte("\xe2")), "");
  EXPECT_EQ(d.Push(byte("\x82")), "");
  EXPECT_EQ(d.Finish(), "\ufffd");
  EXPECT_EQ(d.Finish(), "");
}

// SentencePiece's vocabulary in small: ids 0-5, byte tokens E2 82 AC C3 A9 41 as 6-11, and <s>.
constexpr const char* kSmall = R"({
  "added_tokens": [{"id": 12, "content": "<s>", "special": true}], "pre_tokenizer": null,
  "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
                 {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
  "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
              {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
  "model": {"type": "BPE", "byte_fallback": true, "vocab": {"a": 0, "▁": 1, "▁a": 2, "b": 3, "é": 4, "▁▁": 5,
            "<0xE2>": 6, "<0x82>": 7, "<0xAC>": 8, "<0xC3>": 9, "<0xA9>": 10, "<0x41>": 11}, "merges": ["▁ a"]}})";
enum { kA, kMark, kMarkA, kB, kEAcute, kMarks, kE2, k82, kAC, kC3, kA9, k41, kBos };

std::unique_ptr<Tokenizer> Small(const std::string& patch = "{}") {
  json file = json::parse(kSmall);
  file.merge_patch(json::parse(patch));
  auto tokenizer = ParseTokenizer(file.dump(), "");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return std::move(tokenizer).value();
}

// What each Push gives, and Finish.
std::vector<std::string> Pushes(const Tokenizer& t, const std::vector<int32_t>& ids) {
  StreamDecoder decoder(&t);
  std::vector<std::string> parts;
  for (const int32_t id : ids) parts.push_back(decoder.Push(id));
  parts.push_back(decoder.Finish());
  return parts;
}

TEST(StreamDecoder, SpacesOfSentencePiece) {
  const auto t = Small();
  using V = std::vector<std::string>;
  EXPECT_EQ(Pushes(*t, {kMarkA, kMarkA, kB}), (V{"a", " a", "b", ""}));
  EXPECT_EQ(Pushes(*t, {kMark, kMarkA}), (V{"", " a", ""}));  // one space is stripped, the next one is text
  EXPECT_EQ(Pushes(*t, {kMarks, kA}), (V{" ", "a", ""}));
  EXPECT_EQ(Pushes(*t, {kBos, kMarkA}), (V{"", "a", ""}));  // a hidden token is not the first one
  EXPECT_EQ(Pushes(*t, {kA, kMarkA}), (V{"a", " a", ""}));
  EXPECT_EQ(Pushes(*t, {-1, 99, kMarkA}), (V{"", "", "a", ""}));
  EXPECT_EQ(t->Decode(std::vector<int32_t>{kBos, kMarkA}, /*skip_special=*/false), "<s> a");
  EXPECT_EQ(t->Decode(t->Encode(" a  a", {}), true), " a  a");
}

TEST(StreamDecoder, RunsOfByteFallback) {
  const auto t = Small();
  using V = std::vector<std::string>;
  // A run is text when all of it is, so it comes when it is over.
  EXPECT_EQ(Pushes(*t, {kA, kE2, k82, kAC, kB}), (V{"a", "", "", "", "€b", ""}));
  EXPECT_EQ(Pushes(*t, {kE2, k82, kAC, kC3, kA9}), (V{"", "", "", "", "", "€é"}));
  EXPECT_EQ(Pushes(*t, {kE2, kBos, k82, kAC, kB}), (V{"", "", "", "", "€b", ""}));
  EXPECT_EQ(Pushes(*t, {kE2, k82, kB}), (V{"", "", "\ufffd\ufffdb", ""}));
  EXPECT_EQ(Pushes(*t, {k41, kE2, kB}), (V{"", "", "\ufffd\ufffdb", ""}));  // even what would be a character
  EXPECT_EQ(Pushes(*t, {kE2}), (V{"", "\ufffd"}));
}

TEST(StreamDecoder, OtherDecoders) {
  using V = std::vector<std::string>;
  EXPECT_EQ(Pushes(*Small(R"({"decoder": null})"), {kA, kBos, kMarkA, kE2}), (V{"a", "", " ▁a", " <0xE2>", ""}));
  const std::string metaspace = R"({"decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": )";
  EXPECT_EQ(Pushes(*Small(metaspace + "\"always\"}}"), {kMarks, kMarkA}), (V{"", " a", ""}));
  EXPECT_EQ(Pushes(*Small(metaspace + "\"never\"}}"), {kMarks, kMarkA}), (V{"  ", " a", ""}));
  const auto strip = Small(R"({"decoder": {"decoders": [{"type": "Fuse"},
                               {"type": "Strip", "content": "b", "start": 2, "stop": 1}]}})");
  EXPECT_EQ(Pushes(*strip, {kB, kB, kB, kA, kB, kA, kB, kB}), (V{"", "", "", "ba", "", "ba", "", "b", ""}));
}

// Whatever is decoded: at once, in a stream, and in every way to stop between.
TEST(StreamDecoder, RandomIdsStreamToWhatTheyDecodeTo) {
  const auto tiny = Load(kTinyModel);
  const auto small = Small();
  std::mt19937 random(11);
  for (int round = 0; round < 2000; ++round) {
    const Tokenizer& t = round % 2 ? *tiny : *small;
    std::vector<int32_t> ids(random() % 20);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % (t.size() + 1));
    for (const bool skip : {false, true}) {
      std::vector<int32_t> shown;
      for (const int32_t id : ids) {
        if (!skip || !t.IsSpecial(id)) shown.push_back(id);
      }
      EXPECT_EQ(Streamed(t, ids, skip), t.Decode(shown, false));
    }
  }
}

TEST(StreamDecoder, RandomIdsOfGemma) {
  SKIP_WITHOUT_SHARED("tokenizers/gemma3/tokenizer.json.gz");
  const auto t = Load(kShared + "/tokenizers/gemma3/tokenizer.json.gz");
  std::mt19937 random(12);
  for (int round = 0; round < 2000; ++round) {
    std::vector<int32_t> ids(random() % 20);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % 2 ? 238 + random() % 256 : random() % t->size());
    EXPECT_EQ(Streamed(*t, ids, false), t->Decode(ids, false));
  }
}

}  // namespace
}  // namespace atl::coordinator
