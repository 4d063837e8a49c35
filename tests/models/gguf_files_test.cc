// GGUF files: what is written is read, and whatever is cut short, damaged or made to mislead ends in one sentence.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "models/weights/formats/gguf.h"
#include "models/weights/gguf_spec.h"
#include "models/weights/read_model.h"
#include "tests/models/gguf_writer.h"
#include "tests/models/in_directory.h"

namespace atl::models {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::string kGolden = std::string(ATOLL_SOURCE_DIR) + "/tests/golden/gguf/";

class GgufFiles : public InDirectory {
 protected:
  std::string Path(const std::string& name) const { return (directory_ / name).string(); }
  std::string Error(const std::string& bytes) {
    std::ofstream(Path("model.gguf"), std::ios::binary) << bytes;
    const auto gguf = Gguf::Open(Path("model.gguf"));
    return gguf.ok() ? "ok" : ToString(gguf.status().message());
  }
};

std::string Floats(int64_t n) { return std::string(4 * n, '\1'); }

GgufWriter Small() {
  GgufWriter gguf;
  gguf.Text("general.architecture", "llama");
  gguf.Number("llama.block_count", 4u);
  gguf.Number("llama.eps", 1e-6f);
  gguf.Number("u8", uint8_t{200});
  gguf.Number("i8", int8_t{-7});
  gguf.Number("u16", uint16_t{60000});
  gguf.Number("i16", int16_t{-300});
  gguf.Number("i32", int32_t{-5});
  gguf.Number("u64", uint64_t{1} << 63);
  gguf.Number("i64", int64_t{-1} << 40);
  gguf.Number("f64", 0.1);
  gguf.Number("flag", true);
  gguf.Array("heads", std::vector<int32_t>{8, 8, 4});
  gguf.Array("tokenizer.ggml.tokens", std::vector<std::string>{"a", "", "\xff\x80"});
  gguf.Array("tokenizer.ggml.scores", std::vector<float>{0, -1.5f, -2});
  gguf.Array("tokenizer.ggml.token_type", std::vector<int32_t>{1, 3, 6});
  gguf.Text("tokenizer.ggml.model", "llama");
  gguf.Text("tokenizer.chat_template", "{{ messages }}");
  gguf.Number("tokenizer.ggml.bos_token_id", 1u);
  gguf.Number("tokenizer.ggml.add_bos_token", false);
  gguf.Tensor("a", {2, 3}, 0, Floats(6));
  gguf.Tensor("b", {5}, 0, Floats(5));
  gguf.Tensor("c", {2, 3, 32}, 2, std::string(6 * 18, 'x'));
  gguf.Tensor("unknown", {7}, 27, std::string(56, 'x'));  // i64
  return gguf;
}

TEST_F(GgufFiles, WhatIsWrittenIsRead) {
  Small().Write(Path("model.gguf"));
  const auto gguf = Gguf::Open(Path("model.gguf"));
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  const nlohmann::json& values = (*gguf)->values();
  EXPECT_EQ((*gguf)->architecture(), "llama");
  EXPECT_EQ((*gguf)->Integer("block_count"), 4);
  EXPECT_EQ((*gguf)->Integer("eps"), std::nullopt);
  EXPECT_EQ(values["llama.eps"], 1e-6);  // not 9.99999997475e-7
  EXPECT_EQ(values["u8"], 200);
  EXPECT_EQ(values["i8"], -7);
  EXPECT_EQ(values["u16"], 60000);
  EXPECT_EQ(values["i16"], -300);
  EXPECT_EQ(values["i32"], -5);
  EXPECT_EQ(values["u64"], uint64_t{1} << 63);
  EXPECT_EQ(values["i64"], int64_t{-1} << 40);
  EXPECT_EQ(values["f64"], 0.1);
  EXPECT_EQ(values["flag"], true);
  EXPECT_EQ(values["heads"], nlohmann::json({8, 8, 4}));
  EXPECT_FALSE(values.contains("tokenizer.ggml.tokens"));
  const GgufTensor* a = (*gguf)->Find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->format, WeightFormat::kF32);
  EXPECT_THAT(a->shape, ElementsAre(2, 3));
  EXPECT_EQ(a->bytes, 24);
  EXPECT_EQ(*a->data, std::byte{1});
  EXPECT_THAT((*gguf)->Find("c")->shape, ElementsAre(2, 3, 32));
  EXPECT_EQ((*gguf)->Find("c")->bytes, 6 * 18);
  EXPECT_EQ((*gguf)->Find("unknown")->format, std::nullopt);
  EXPECT_EQ((*gguf)->Find("d"), nullptr);
}

TEST_F(GgufFiles, TheTokenizerIsHandedOutAsItIs) {
  Small().Write(Path("model.gguf"));
  const auto tokenizer = (*Gguf::Open(Path("model.gguf")))->Tokenizer();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(tokenizer->model, "llama");
  EXPECT_EQ(tokenizer->pre, "");
  EXPECT_THAT(tokenizer->tokens, ElementsAre("a", "", "\xff\x80"));
  EXPECT_THAT(tokenizer->scores, ElementsAre(0, -1.5f, -2));
  EXPECT_THAT(tokenizer->token_types, ElementsAre(1, 3, 6));
  EXPECT_EQ(tokenizer->bos_id, 1);
  EXPECT_EQ(tokenizer->eos_id, std::nullopt);
  EXPECT_EQ(tokenizer->add_bos, false);
  EXPECT_EQ(tokenizer->add_eos, std::nullopt);
  EXPECT_EQ(tokenizer->chat_template, "{{ messages }}");
  GgufWriter wrong;
  wrong.Array("tokenizer.ggml.tokens", std::vector<int32_t>{1});
  wrong.Write(Path("wrong.gguf"));
  EXPECT_THAT(ToString((*Gguf::Open(Path("wrong.gguf")))->Tokenizer().status().message()),
              HasSubstr("tokenizer.ggml.tokens must be an array of strings"));
}

TEST_F(GgufFiles, EveryTruncationIsRefused) {
  const std::string whole = Small().Bytes();
  EXPECT_EQ(Error(whole), "ok");
  // The last tensor is of a type whose size is nobody's claim, and padding is not missed.
  const size_t needed = whole.size() - 64 - 12;
  for (size_t size = 0; size < needed; ++size) ASSERT_NE(Error(whole.substr(0, size)), "ok") << size;
}

TEST_F(GgufFiles, LyingHeadersAreRefused) {
  const auto header = [](uint32_t version, uint64_t tensors, uint64_t keys) {
    std::string bytes = "GGUF";
    GgufWriter::Put(version, &bytes);
    GgufWriter::Put(tensors, &bytes);
    GgufWriter::Put(keys, &bytes);
    return bytes;
  };
  const auto key = [&](const std::string& name, uint32_t type, const std::string& value) {
    std::string bytes = header(3, 0, 1);
    GgufWriter::PutString(name, &bytes);
    GgufWriter::Put(type, &bytes);
    return bytes + value;
  };
  const auto tensor = [&](std::vector<uint64_t> shape, uint32_t type, uint64_t offset, size_t data) {
    std::string bytes = header(3, 1, 0);
    GgufWriter::PutString("t", &bytes);
    GgufWriter::Put(static_cast<uint32_t>(shape.size()), &bytes);
    for (const uint64_t size : shape) GgufWriter::Put(size, &bytes);
    GgufWriter::Put(type, &bytes);
    GgufWriter::Put(offset, &bytes);
    bytes.resize((bytes.size() + 31) / 32 * 32 + data);
    return bytes;
  };
  const auto number = [](auto value) {
    std::string bytes;
    GgufWriter::Put(value, &bytes);
    return bytes;
  };
  EXPECT_EQ(Error(tensor({4}, 0, 0, 16)), "ok");
  EXPECT_THAT(Error("GGUF"), HasSubstr("is not a GGUF file"));
  EXPECT_THAT(Error("GGML" + header(3, 0, 0).substr(4)), HasSubstr("is not a GGUF file"));
  EXPECT_THAT(Error(header(1, 0, 0)), HasSubstr("GGUF version 1 cannot be read"));
  EXPECT_THAT(Error(header(0x03000000, 0, 0)), HasSubstr("it is big-endian"));
  EXPECT_THAT(Error(header(3, uint64_t{1} << 60, 0)), HasSubstr("is the file damaged?"));
  EXPECT_THAT(Error(header(3, 0, UINT64_MAX)), HasSubstr("is the file damaged?"));
  EXPECT_THAT(Error(header(3, 0, 5)), HasSubstr("ends inside its header"));
  EXPECT_THAT(Error(header(3, 0, 1) + number(UINT64_MAX)),
              HasSubstr("a key's name would have 18446744073709551615 bytes"));
  EXPECT_THAT(Error(key("k", 8, number(uint64_t{1} << 40))), HasSubstr("a key's text would have 1099511627776 bytes"));
  EXPECT_THAT(Error(key("k", 13, number(1.0))), HasSubstr("key k has type 13"));
  EXPECT_THAT(Error(key("k", 10, "1234")), HasSubstr("ends inside its metadata"));
  EXPECT_THAT(Error(key("k", 9, number(uint32_t{9}) + number(uint64_t{1}))), HasSubstr("an array of type 9"));
  EXPECT_THAT(Error(key("k", 9, number(uint32_t{4}) + number(uint64_t{1} << 62))),
              HasSubstr("key k would have 4611686018427387904 elements"));
  EXPECT_THAT(Error(key("k", 9, number(uint32_t{8}) + number(uint64_t{2}) + number(uint64_t{1}) + "abcdefghi")),
              HasSubstr("a text of an array would have"));
  EXPECT_THAT(Error(tensor({}, 0, 0, 16)), HasSubstr("tensor t has 0 dimensions"));
  EXPECT_THAT(Error(tensor({1, 1, 1, 1, 1}, 0, 0, 16)), HasSubstr("tensor t has 5 dimensions"));
  EXPECT_THAT(Error(tensor({UINT64_MAX}, 0, 0, 16)), HasSubstr("has a dimension of"));
  EXPECT_THAT(Error(tensor({uint64_t{1} << 32, uint64_t{1} << 32}, 0, 0, 16)), HasSubstr("too large for 64 bits"));
  EXPECT_THAT(Error(tensor({uint64_t{1} << 40, uint64_t{1} << 30, 119}, 77, 0, 16)),
              HasSubstr("too large for 64 bits"));
  EXPECT_THAT(Error(tensor({33}, 2, 0, 64)), HasSubstr("rows of 33 elements, which q4_0 cannot hold in blocks of 32"));
  EXPECT_THAT(Error(tensor({5}, 0, 0, 16)), HasSubstr("tensor t (20 bytes at offset 0) leaves the file's 16 bytes"));
  EXPECT_THAT(Error(tensor({4}, 0, 32, 16)), HasSubstr("leaves the file's 16 bytes"));
  EXPECT_THAT(Error(tensor({4}, 0, 8, 64)), HasSubstr("offset 8, which is not aligned to 32"));
  EXPECT_THAT(Error(tensor({4}, 0, UINT64_MAX - 31, 64)), HasSubstr("begins at offset"));

  GgufWriter twice;
  twice.Number("k", 1u);
  twice.Number("k", 2u);
  EXPECT_THAT(Error(twice.Bytes()), HasSubstr("key k is there twice"));
  GgufWriter names;
  names.Tensor("t", {1}, 0, Floats(1));
  names.Tensor("t", {1}, 0, Floats(1));
  EXPECT_THAT(Error(names.Bytes()), HasSubstr("tensor t is there twice"));
  for (const uint32_t alignment : {0u, 3u, 1u << 30}) {
    GgufWriter odd;
    odd.Number("general.alignment", alignment);
    EXPECT_THAT(Error(odd.Bytes()), HasSubstr(fmt::format("general.alignment is {}", alignment)));
  }
  GgufWriter text;
  text.Text("general.alignment", "\xff");
  EXPECT_THAT(Error(text.Bytes()), HasSubstr("it must be a power of two"));
}

TEST_F(GgufFiles, OverlappingTensorsAreRefused) {
  GgufWriter gguf;
  gguf.Tensor("a", {16}, 0, Floats(16));
  gguf.Tensor("b", {16}, 0, Floats(16));
  std::string bytes = gguf.Bytes();
  const size_t offset = bytes.find(std::string("\x10\0\0\0\0\0\0\0\0\0\0\0\x40", 13)) + 12;
  ASSERT_LT(offset, bytes.size());
  bytes[offset] = 32;  // b begins in the middle of a
  EXPECT_THAT(Error(bytes), HasSubstr("tensor b overlaps the one before it"));
}

GgufWriter Part(int number, int count, const std::string& tensor, int all) {
  GgufWriter gguf;
  gguf.Text("general.architecture", "llama");
  gguf.Number("split.no", static_cast<uint16_t>(number));
  gguf.Number("split.count", static_cast<uint16_t>(count));
  gguf.Number("split.tensors.count", all);
  gguf.Tensor(tensor, {4}, 0, Floats(4));
  return gguf;
}

TEST_F(GgufFiles, SplitFilesAreJoined) {
  Part(0, 3, "a", 3).Write(Path("m-00001-of-00003.gguf"));
  Part(1, 3, "b", 3).Write(Path("m-00002-of-00003.gguf"));
  const auto error = [&](const std::string& name) {
    const auto gguf = Gguf::Open(Path(name));
    return gguf.ok() ? "ok" : ToString(gguf.status().message());
  };
  EXPECT_THAT(error("m-00001-of-00003.gguf"), HasSubstr("m-00003-of-00003.gguf cannot be opened"));
  Part(2, 3, "a", 3).Write(Path("m-00003-of-00003.gguf"));
  EXPECT_THAT(error("m-00001-of-00003.gguf"), HasSubstr("m-00003-of-00003.gguf: tensor a is in file 1 too"));
  Part(1, 3, "c", 3).Write(Path("m-00003-of-00003.gguf"));
  EXPECT_THAT(error("m-00001-of-00003.gguf"),
              HasSubstr("its metadata says that it is file 2 of 3, its name file 3 of 3"));
  Part(2, 3, "c", 3).Write(Path("m-00003-of-00003.gguf"));
  for (const char* name : {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf"}) {
    const auto gguf = Gguf::Open(Path(name));
    ASSERT_TRUE(gguf.ok()) << gguf.status();
    for (const char* tensor : {"a", "b", "c"}) EXPECT_NE((*gguf)->Find(tensor), nullptr);
    EXPECT_EQ((*gguf)->num_tensors(), 3);
  }
  EXPECT_EQ(GgufInDirectory(directory_.string())->value(), Path("m-00001-of-00003.gguf"));
  Part(0, 3, "a", 4).Write(Path("m-00001-of-00003.gguf"));
  EXPECT_THAT(error("m-00002-of-00003.gguf"), HasSubstr("hold 3 tensors, its metadata says 4"));

  Part(0, 1, "x", 1).Write(Path("mmproj-x.gguf"));  // not a text model
  EXPECT_TRUE(GgufInDirectory(directory_.string()).ok());
  Part(0, 1, "x", 1).Write(Path("other.gguf"));
  EXPECT_THAT(ToString(GgufInDirectory(directory_.string()).status().message()), HasSubstr("holds 2 GGUF models"));
}

// The specification is that of the config.json that the model is published with.
TEST_F(GgufFiles, SpecificationsAreThePublishedOnes) {
  const std::string golden = std::string(ATOLL_SOURCE_DIR) + "/tests/golden/";
  for (const auto& [file, family] : {std::pair<const char*, const char*>{"deepseek_v3.fused_kv.gguf", "deepseek_v3"},
                                     {"deepseek_v3.split_kv.gguf", "deepseek_v3"},
                                     {"kimi_k2.gguf", "kimi_k2"},
                                     {"qwen3_moe.gguf", "qwen3_moe"},
                                     {"llama3.gguf", "llama3"},
                                     {"gemma3.gguf", "gemma3"}}) {
    const auto got = ReadModel(golden + "gguf/" + file), want = ReadModelSpec(golden + family);
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(got->architecture, want->architecture) << file;
    EXPECT_EQ(got->vocab, want->vocab);
    EXPECT_EQ(got->hidden, want->hidden);
    EXPECT_EQ(got->heads, want->heads);
    EXPECT_EQ(got->norm_eps, want->norm_eps);
    EXPECT_EQ(got->tied_embeddings, want->tied_embeddings);
    EXPECT_EQ(got->max_positions, want->max_positions);
    EXPECT_EQ(CountParameters(*got).total, CountParameters(*want).total) << file;
    ASSERT_EQ(got->layers.size(), want->layers.size());
    for (size_t i = 0; i < got->layers.size(); ++i) {
      EXPECT_EQ(got->layers[i].reach, want->layers[i].reach);
      EXPECT_EQ(got->layers[i].extent, want->layers[i].extent);
      EXPECT_EQ(got->layers[i].rope, want->layers[i].rope);
      EXPECT_EQ(got->layers[i].moe, want->layers[i].moe);
      EXPECT_EQ(got->layers[i].mlp, want->layers[i].mlp);
    }
    ASSERT_EQ(got->ropes.size(), want->ropes.size());
    for (size_t i = 0; i < got->ropes.size(); ++i) {
      EXPECT_EQ(got->ropes[i].theta, want->ropes[i].theta);
      EXPECT_EQ(got->ropes[i].linear, want->ropes[i].linear);
      EXPECT_EQ(got->ropes[i].interleaved, want->ropes[i].interleaved);
      ASSERT_EQ(got->ropes[i].yarn.has_value(), want->ropes[i].yarn.has_value());
      if (!got->ropes[i].yarn) continue;
      EXPECT_EQ(got->ropes[i].yarn->factor, want->ropes[i].yarn->factor);
      EXPECT_EQ(got->ropes[i].yarn->beta_fast, want->ropes[i].yarn->beta_fast);
      EXPECT_EQ(got->ropes[i].yarn->mscale_all_dim, want->ropes[i].yarn->mscale_all_dim);
      EXPECT_EQ(got->ropes[i].yarn->original_positions, want->ropes[i].yarn->original_positions);
    }
    if (want->gqa) {
      EXPECT_EQ(got->gqa->kv_heads, want->gqa->kv_heads);
      EXPECT_EQ(got->gqa->head_dim, want->gqa->head_dim);
      EXPECT_EQ(got->gqa->scale, want->gqa->scale) << file;
    }
    if (want->moe) {
      EXPECT_EQ(got->moe->router, want->moe->router);
      EXPECT_EQ(got->moe->experts, want->moe->experts);
      EXPECT_EQ(got->moe->top_k, want->moe->top_k);
      EXPECT_EQ(got->moe->groups, want->moe->groups);
      EXPECT_EQ(got->moe->groups_kept, want->moe->groups_kept);
      EXPECT_EQ(got->moe->normalize, want->moe->normalize);
      EXPECT_EQ(got->moe->scaling, want->moe->scaling);
    }
  }
}

TEST_F(GgufFiles, ModelsThatCannotBeAreRefused) {
  const auto error = [&](const GgufWriter& gguf) {
    gguf.Write(Path("m.gguf"));
    const auto spec = ReadModel(Path("m.gguf"));
    return spec.ok() ? "ok" : ToString(spec.status().message());
  };
  GgufWriter none;
  EXPECT_THAT(error(none), HasSubstr("architecture (none stated) is not supported; deepseek2, gemma3, gpt2, llama"));
  GgufWriter clip;
  clip.Text("general.architecture", "clip");
  EXPECT_THAT(error(clip), HasSubstr("architecture clip is not supported"));
  const auto llama = [](uint32_t heads, uint32_t key, uint32_t value) {
    GgufWriter gguf;
    gguf.Text("general.architecture", "llama");
    gguf.Number("llama.block_count", 1u);
    gguf.Number("llama.context_length", 64u);
    gguf.Number("llama.embedding_length", 32u);
    gguf.Number("llama.feed_forward_length", 32u);
    gguf.Number("llama.attention.head_count", heads);
    gguf.Number("llama.attention.key_length", key);
    gguf.Number("llama.attention.value_length", value);
    gguf.Number("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf.Tensor("token_embd.weight", {8, 32}, 0, Floats(8 * 32));
    return gguf;
  };
  GgufWriter less;
  less.Text("general.architecture", "llama");
  EXPECT_THAT(error(less), HasSubstr("key llama.block_count is missing"));
  EXPECT_THAT(error(llama(4, 8, 16)), HasSubstr("keys of 8 and values of 16 elements is not supported"));
  EXPECT_THAT(error(llama(0, 8, 8)), HasSubstr("its metadata as a config.json"));
  EXPECT_THAT(error(llama(4, 8, 8)), HasSubstr("has no tensor blk.0.attn_norm.weight"));
  GgufWriter typed = llama(4, 8, 8);
  typed.Tensor("blk.0.attn_norm.weight", {32}, 8, std::string(34, 'x'));
  EXPECT_THAT(error(typed), HasSubstr("blk.0.attn_norm.weight is stored as q8_0; f32, f16 and bf16 can be read"));
  GgufWriter unknown = llama(4, 8, 8);
  unknown.Tensor("blk.0.attn_norm.weight", {32}, 0, Floats(32));
  unknown.Tensor("blk.0.attn_q.weight", {32, 32}, 34, std::string(64, 'x'));
  EXPECT_THAT(error(unknown), HasSubstr("blk.0.attn_q.weight is stored as GGUF's type 34"));
  GgufWriter shaped = llama(4, 8, 8);
  shaped.Tensor("blk.0.attn_norm.weight", {33}, 0, Floats(33));
  EXPECT_THAT(error(shaped), HasSubstr("blk.0.attn_norm.weight is [33], its metadata asks for"));
  GgufWriter factors = llama(4, 8, 8);
  factors.Tensor("rope_freqs.weight", {4}, 0, std::string(16, '\0'));
  EXPECT_THAT(error(factors), HasSubstr("rope_freqs.weight holds 0"));
  GgufWriter experts = llama(4, 8, 8);
  experts.Number("llama.expert_count", 8u);
  EXPECT_THAT(error(experts), HasSubstr("llama with experts is not supported"));
}

}  // namespace
}  // namespace atl::models
