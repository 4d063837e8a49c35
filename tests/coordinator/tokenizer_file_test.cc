// Files that are wrong, or ask for what cannot be done exactly: each ends in one sentence that names the file and the
// place, whatever its bytes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "coordinator/tokenizer/tokenizer.h"

namespace atl::coordinator {
namespace {

using nlohmann::json;

class Malformed : public testing::Test {
 protected:
  absl::Status LoadText(const std::string& text) {
    std::ofstream(path_) << text;
    return LoadTokenizer(path_).status();
  }
  // The small valid file after `patch` (RFC 7386).
  absl::Status LoadPatched(const std::string& patch) {
    json file = json::parse(R"({
      "added_tokens": [{"id": 3, "content": "<s>", "special": true}], "normalizer": null, "post_processor": null,
      "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
      "decoder": {"type": "ByteLevel"},
      "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})");
    file.merge_patch(json::parse(patch));
    return LoadText(file.dump());
  }
  const std::string path_ =
      testing::TempDir() + testing::UnitTest::GetInstance()->current_test_info()->name() + "_tokenizer.json";
};

TEST_F(Malformed, EndsInOneSentenceThatNamesIt) {
  ASSERT_TRUE(LoadPatched("{}").ok()) << LoadPatched("{}");
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"model": null})", "no model"},
      {R"({"model": 7})", "number"},
      {R"({"model": {"type": "Unigram"}})", "Unigram"},
      {R"({"model": {"type": 1}})", "/model/type"},
      {R"({"model": {"vocab": []}})", "vocab"},
      {R"({"model": {"merges": "a b"}})", "merges"},
      {R"({"model": {"vocab": {"c": -1}}})", "-1"},
      {R"({"model": {"vocab": {"c": 1.5}}})", "1.5"},
      {R"({"model": {"vocab": {"c": "0"}}})", "whole number"},
      {R"({"model": {"vocab": {"c": 99999999}}})", "99999999"},
      {R"({"model": {"vocab": {"c": 18446744073709551615}}})", "18446744073709551615"},
      {R"({"model": {"vocab": {"c": 18446744073709551616}}})", "whole number"},
      {R"({"model": {"vocab": {"c": 1}}})", "two tokens"},
      {R"({"model": {"merges": ["a c"]}})", "merge 0"},
      {R"({"model": {"merges": ["ab a"]}})", "vocabulary"},
      {R"({"model": {"merges": ["a"]}})", "merge 0"},
      {R"({"model": {"merges": [["a"]]}})", "merge 0"},
      {R"({"model": {"merges": [["a", 1]]}})", "merge 0 is 1"},
      {R"({"model": {"merges": [null]}})", "merge 0"},
      {R"({"model": {"ignore_merges": "yes"}})", "/model/ignore_merges"},
      {R"({"model": {"byte_fallback": true}})", "byte_fallback"},
      {R"({"model": {"unk_token": "<none>"}})", "<none>"},
      {R"({"model": {"dropout": 0.1}})", "dropout"},
      {R"({"model": {"end_of_word_suffix": "</w>"}})", "end_of_word_suffix"},
      {R"({"added_tokens": {}})", "added_tokens"},
      {R"({"added_tokens": [1]})", "/added_tokens/0"},
      {R"({"added_tokens": [{"id": 4}]})", "content"},
      {R"({"added_tokens": [{"content": "x"}]})", "id"},
      {R"({"added_tokens": [{"id": 4, "content": ""}]})", "content"},
      {R"({"added_tokens": [{"id": "4", "content": "x"}]})", "whole number"},
      {R"({"added_tokens": [{"id": 4294967296, "content": "x"}]})", "4294967296"},
      {R"({"added_tokens": [{"id": 0, "content": "x"}]})", "two tokens"},
      {R"({"added_tokens": [{"id": 4, "content": "x", "lstrip": 1}]})", "/added_tokens/0/lstrip"},
      {R"({"added_tokens": [{"id": 4, "content": "b"}]})", "two ids, 1 in the vocabulary and 4"},
      {R"({"added_tokens": [{"id": 4, "content": "x"}, {"id": 4, "content": "x"}]})", "two tokens"},
      {R"({"added_tokens": [{"id": 4, "content": "x", "special": 3}]})", "/added_tokens/0/special"},
      {R"({"normalizer": {"type": "Precompiled"}})", "Precompiled"},
      {R"({"normalizer": {"type": "Replace", "pattern": {"String": ""}, "content": "x"}})", "empty"},
      {R"({"normalizer": {"type": "Replace", "pattern": {"Regex": "\\bx"}, "content": "x"}})", "\\b"},
      {R"({"normalizer": {"type": "Strip"}})", "strip_right"},
      {R"({"decoder": {"type": "WordPiece"}})", "WordPiece"},
      {R"({"decoder": {"type": "Metaspace"}})", "replacement"},
      {R"({"decoder": {"type": "Metaspace", "replacement": "ab"}})", "not one character"},
      {R"({"decoder": {"type": "Sequence", "decoders": [{"type": "ByteLevel"}, {"type": "ByteFallback"}]}})",
       "after ByteLevel"},
      {R"({"decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "ByteFallback"}]}})", "after Fuse"},
      {R"({"decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Strip", "content": " ",
           "start": 1e26, "stop": 1}]}})",
       "a Strip's start is 1e+26"},
      {R"({"pre_tokenizer": {"type": "Metaspace"}})", "replacement"},
      {R"({"pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "last"}})", "last"},
      {R"({"pre_tokenizer": {"type": "BertPreTokenizer"}})", "BertPreTokenizer"},
      {R"({"pre_tokenizer": {"type": "Sequence"}})", "pretokenizers"},
      {R"({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}, {"type": "Digits"}]}})",
       "after ByteLevel"},
      {R"({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split", "behavior": "Isolated",
           "pattern": {"Regex": "(["}}, {"type": "ByteLevel", "add_prefix_space": false}]}})",
       "(["},
      {R"({"pre_tokenizer": {"type": "Split", "behavior": "Shuffled", "pattern": {"Regex": "a"}}})", "Shuffled"},
      {R"({"pre_tokenizer": {"type": "Split", "behavior": "Removed", "pattern": {"String": ""}}})", "empty"},
      {R"({"pre_tokenizer": {"type": "Split", "behavior": "Removed", "pattern": {}}})", "Regex"},
      {R"({"post_processor": {"type": "BertProcessing"}})", "BertProcessing"},
      {R"({"post_processor": {"type": "TemplateProcessing"}})", "single"},
      {R"({"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<t>"}}],
           "special_tokens": {}}})",
       "<t>"},
      {R"({"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<t>"}}],
           "special_tokens": {"<t>": {"ids": [77]}}}})",
       "77"},
      {R"({"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<t>"}}],
           "special_tokens": {"<t>": {"ids": [1.5]}}}})",
       "is 1.5, not a whole number"},
      {R"({"post_processor": {"type": "TemplateProcessing", "single": [{}]}})", "SpecialToken"},
      {R"({"post_processor": {"type": "TemplateProcessing", "single": []}})", "without its text"},
  };
  for (const auto& [patch, word] : cases) {
    const absl::Status status = LoadPatched(patch);
    EXPECT_FALSE(status.ok()) << patch;
    EXPECT_THAT(ToString(status.message()), testing::HasSubstr(word)) << patch;
    EXPECT_THAT(ToString(status.message()), testing::HasSubstr("_tokenizer.json")) << patch;
  }
  EXPECT_EQ(LoadTokenizer("/nowhere").status().code(), absl::StatusCode::kNotFound);
  for (const std::string& text : {std::string(), std::string("[]"), std::string("{"),
                                  std::string("{\"model\": \"\xff\"}"), std::string(1 << 20, '[')}) {
    EXPECT_FALSE(LoadText(text).ok()) << text.substr(0, 40);
  }
}

// The JSON of ranks: all bytes, "ab", and what `patch` says.
std::string Ranks(const std::string& patch) {
  std::string ranks = "! 0";
  const std::string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (int byte = 0; byte < 256; ++byte) {
    ranks += std::string(" ") + alphabet[byte >> 2] + alphabet[byte << 4 & 63] + "==";
  }
  json file = {{"pat_str", "a+|[^a]"}, {"special_tokens", {{"<s>", 300}}}, {"bpe_ranks", ranks + "\n! 256 YWI="}};
  file.merge_patch(json::parse(patch));
  return file.dump();
}

TEST_F(Malformed, RanksToo) {
  ASSERT_TRUE(LoadText(Ranks("{}")).ok()) << LoadText(Ranks("{}"));
  const auto t = LoadTokenizer(path_);
  EXPECT_THAT((*t)->Encode("abé<s>", {}), testing::ElementsAre('a', 'b', 0xc3, 0xa9, 300));
  const std::vector<std::pair<std::string, std::string>> cases = {
      {Ranks(R"({"pat_str": "(a"})"), "(a"},
      {Ranks(R"({"pat_str": null})"), "pat_str"},
      {Ranks(R"({"special_tokens": {"<t>": 256}})"), "<t>"},
      {Ranks(R"({"special_tokens": {"": 301}})"), "no content"},
      {Ranks(R"({"bpe_ranks": "! x YWI="})"), "x"},
      {Ranks(R"({"bpe_ranks": "! 0 Y*I="})"), "Y*I="},
      {Ranks(R"({"bpe_ranks": "! 0 YWI"})"), "base64"},
      {Ranks(R"({"bpe_ranks": "! 0 YWI="})"), "byte 0x00 has no rank"},
      {Ranks(R"({"bpe_ranks": "! 0 YWI= YWI="})"), "two ids"},
      {Ranks(R"({"bpe_ranks": "! 99999999999 YWI="})"), "99999999999"},
      {R"({"bpe_ranks": 1, "default_num_special_tokens": 2})", "config"},
      {R"({"config": {"pattern": "a", "default_num_special_tokens": 99999999, "default_vocab_size": 1}})", "99999999"},
      {R"({"config": {"pattern": "a", "default_num_special_tokens": 3, "default_vocab_size": 1e30}})", "1e+30"},
      {R"({"config": {"pattern": "a", "default_num_special_tokens": 3, "default_vocab_size": 5}, "vocab": []})",
       "0x00"},
      {"YWI= 0\nYmI= 1\n", "2 ranks"},
      {"YWI= 0\nYmI=", "no rank"},
      {"YWI= -\n", "no rank"},
      {"GGUF", "GGUF"},
      {"\n\x0eSentencePiece", "SentencePiece"},
      {"\x1f\x8b broken", "gzip"},
  };
  for (const auto& [text, word] : cases) {
    const absl::Status status = LoadText(text);
    EXPECT_FALSE(status.ok()) << text.substr(0, 100);
    EXPECT_THAT(ToString(status.message()), testing::HasSubstr(word)) << text.substr(0, 100);
    EXPECT_THAT(ToString(status.message()), testing::HasSubstr("_tokenizer.json"));
  }
}

TEST_F(Malformed, ChangedBytesNeverCrash) {
  std::ifstream file(std::string(ATOLL_SOURCE_DIR) + "/models/checkpoints/tiny-deepseek-v3/tokenizer.json",
                     std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(file)), {});
  ASSERT_FALSE(good.empty());
  const std::vector<std::string> inserts = {"null", "-1", "1e999", "\"\"", "[]", "{}", "\"", "9999999999", "\xff", ","};
  std::mt19937 random(23);
  int refused = 0;
  for (int round = 0; round < 300; ++round) {
    std::string bad = good;
    for (int edit = 0; edit < 2; ++edit) {
      const std::string& insert = inserts[random() % inserts.size()];
      bad.replace(random() % (round % 2 != 0 ? 3000 : bad.size()), random() % 12, insert);
    }
    std::ofstream(path_) << bad;
    const auto tokenizer = LoadTokenizer(path_);
    refused += tokenizer.ok() ? 0 : 1;
    if (tokenizer.ok()) (*tokenizer)->Encode("Some text <｜User｜> \xff 123", {.add_special = true});
  }
  EXPECT_GT(refused, 200);
}

}  // namespace
}  // namespace atl::coordinator
