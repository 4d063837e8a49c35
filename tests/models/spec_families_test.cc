// Each family's config.json: what it says of the layers, what is assumed where it says nothing, what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "models/spec/matformer.h"
#include "models/spec/rank_memory.h"

namespace atl::models {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string kSource = ATOLL_SOURCE_DIR;
const std::string kShared = kSource + "/../shared/configs/";

ModelSpec Parse(const json& config) {
  auto spec = ParseModelSpec(config.dump());
  if (!spec.ok()) ADD_FAILURE() << spec.status();
  return spec.ok() ? *spec : ModelSpec();
}

std::string Refusal(const json& config) { return ToString(ParseModelSpec(config.dump()).status().message()); }

json With(json config, const char* key, const json& value) {
  config[key] = value;
  return config;
}

// Layers for which `which` holds.
template <typename Which>
std::vector<int> Layers(const ModelSpec& spec, const Which& which) {
  std::vector<int> layers;
  for (int i = 0; i < spec.num_layers(); ++i) {
    if (which(spec.layers[i])) layers.push_back(i);
  }
  return layers;
}

// Every real config.json: counts and KV bytes as their authors and the specification have them.
TEST(SpecFamilies, CountsOfPublishedModels) {
  struct Published {
    const char* file;
    const char* architecture;
    double total, active;  // billions, as far as they are published
    int64_t kv_bytes;      // of a token in bf16, nothing given back
  };
  constexpr Published kModels[] = {
      {"DeepSeek-R1.json", "deepseek_v3", 671.03, 37.55, 70272},
      {"DeepSeek-V3.json", "deepseek_v3", 671.03, 37.55, 70272},
      {"DeepSeek-V2-Lite.json", "deepseek_v3", 15.71, 2.66, 31104},
      {"Moonlight-16B-A3B-Instruct.json", "deepseek_v3", 15.96, 2.915, 31104},
      {"Kimi-K2-Instruct.json", "deepseek_v3", 1026.41, 32.86, 70272},
      {"Kimi-K2-Thinking.reconstructed.json", "deepseek_v3", 1026.41, 32.86, 70272},
      {"Kimi-K2.5.json", "deepseek_v3", 1026.41, 32.86, 70272},
      {"OLMo-2-1124-7B.json", "olmo2", 7.299, 7.299, 524288},
      {"OLMo-2-1124-13B.json", "olmo2", 13.716, 13.716, 819200},
      {"OLMo-2-0325-32B.json", "olmo2", 32.234, 32.234, 262144},
      {"Gemma-3-270M.reconstructed.json", "gemma3", 0.268, 0.268, 18432},
      {"Gemma-3-1B-it.json", "gemma3", 1.000, 1.000, 26624},
      {"Gemma-3-4B.reconstructed.json", "gemma3", 3.880, 3.880, 139264},
      {"Gemma-3-12B.reconstructed.json", "gemma3", 11.766, 11.766, 393216},
      {"Gemma-3-27B.reconstructed.json", "gemma3", 27.009, 27.009, 507904},
      {"Gemma-3n-E2B.reconstructed.json", "gemma3n", 4.456, 1.905, 40960},
      {"Gemma-3n-E4B.reconstructed.json", "gemma3n", 6.867, 3.980, 40960},
      {"Mistral-Small-3.1-24B.reconstructed.json", "llama", 23.572, 23.572, 163840},
      {"Mistral-Small-3.x-24B.flux2-text-encoder.json", "llama", 23.572, 23.572, 163840},
      {"Llama-4-Scout-17B-16E-Instruct.json", "llama4", 107.77, 17.17, 196608},
      {"Llama-4-Maverick-17B-128E-Instruct.json", "llama4", 400.71, 17.19, 196608},
      {"Qwen3-0.6B.json", "llama", 0.596, 0.596, 114688},
      {"Qwen3-1.7B.json", "llama", 1.721, 1.721, 114688},
      {"Qwen3-4B.json", "llama", 4.022, 4.022, 147456},
      {"Qwen3-8B.json", "llama", 8.191, 8.191, 147456},
      {"Qwen3-14B.json", "llama", 14.768, 14.768, 163840},
      {"Qwen3-32B.json", "llama", 32.762, 32.762, 262144},
      {"Qwen3-32B-FP8.json", "llama", 32.762, 32.762, 262144},
      {"Qwen3-30B-A3B.json", "qwen3_moe", 30.532, 3.353, 98304},
      {"Qwen3-30B-A3B-FP8.json", "qwen3_moe", 30.532, 3.353, 98304},
      {"Qwen3-235B-A22B.json", "qwen3_moe", 235.09, 22.19, 192512},
      {"Qwen3-235B-A22B-FP8.json", "qwen3_moe", 235.09, 22.19, 192512},
      {"SmolLM3-3B.reconstructed.json", "llama", 3.075, 3.075, 73728},
      {"Llama-3.2-1B-Instruct.json", "llama", 1.236, 1.236, 32768},
      {"Llama-3.2-3B-Instruct.json", "llama", 3.213, 3.213, 114688},
      {"Llama-3.1-8B-Instruct.json", "llama", 8.030, 8.030, 131072},
      {"Llama-3-8B.reconstructed.json", "llama", 8.030, 8.030, 131072},
      {"GPT-2.json", "gpt2", 0.124, 0.124, 36864},
  };
  if (!std::filesystem::exists(kShared)) {
    GTEST_SKIP() << "SKIPPED: ../shared/configs is not beside the repository; published counts were NOT checked";
  }
  size_t configs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kShared)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".json") && !name.starts_with("deepseek-inference-config")) ++configs;
  }
  EXPECT_EQ(configs, std::size(kModels)) << "a config that is not in the table";
  for (const Published& model : kModels) {
    const auto spec = ReadModelSpec(kShared + model.file);
    ASSERT_TRUE(spec.ok()) << spec.status();
    EXPECT_EQ(spec->architecture, model.architecture) << model.file;
    const ParameterCount count = CountParameters(*spec);
    const double half_digit = model.total >= 100 ? 0.006 : 0.0006;  // of the table's last one
    EXPECT_NEAR(static_cast<double>(count.total) / 1e9, model.total,
                model.total < 20 && model.total > 15 ? 0.006 : half_digit)
        << model.file;
    EXPECT_NEAR(static_cast<double>(count.active) / 1e9, model.active, 0.006) << model.file;
    EXPECT_EQ(KvBytesPerToken(*spec, *NumericsNamed("bf16")), model.kv_bytes) << model.file;
  }
}

json Gemma3n(int64_t layers, int64_t shared, int64_t width) {
  return {{"model_type", "gemma3n_text"},
          {"num_hidden_layers", layers},
          {"num_kv_shared_layers", shared},
          {"intermediate_size", width}};
}

// The notebook's figures for the published shapes, and the smaller model out of the larger one.
TEST(SpecFamilies, Gemma3nCountsExactly) {
  const ModelSpec e2b = Parse(Gemma3n(30, 10, 8192));
  EXPECT_EQ(CountParameters(e2b).total, 4'456'156'768);
  EXPECT_EQ(CountParameters(e2b).active, 1'905'495'648);
  ModelSpec e4b = Parse(Gemma3n(35, 15, 16384));
  EXPECT_EQ(CountParameters(e4b).total, 6'866'696'688);
  EXPECT_EQ(CountParameters(e4b).active, 3'980'491'248);
  const absl::Status sliced = SliceMatFormer("skip=20-24 mlp=8192", &e4b);
  ASSERT_TRUE(sliced.ok()) << sliced;
  EXPECT_EQ(CountParameters(e4b).total, CountParameters(e2b).total);
  EXPECT_EQ(CountParameters(e4b).active, CountParameters(e2b).active);
  for (int64_t i = 0; i < 30; ++i) {
    EXPECT_EQ(e4b.layers[i].kv_layer, e2b.layers[i].kv_layer) << i;
    EXPECT_EQ(e4b.layers[i].stored_layer, i < 20 ? i : i + 5);
    EXPECT_EQ(e4b.layers[i].sparsity, e2b.layers[i].sparsity);
  }
  for (const Parameter& p : Parameters(e4b)) {
    if (p.name == "model.layers.34.mlp.down_proj.weight") {
      EXPECT_EQ(p.shape, (std::vector<int64_t>{2048, 8192}));
      EXPECT_EQ(p.part->shape, (std::vector<int64_t>{2048, 16384}));
    }
  }
}

TEST(SpecFamilies, Gemma3nSharesKeys) {
  for (const ModelSpec& spec : {Parse(Gemma3n(30, 10, 8192)), Parse(Gemma3n(35, 15, 16384))}) {
    EXPECT_THAT(Layers(spec, [](const LayerSpec& l) { return l.reach == Reach::kFull && l.stored_layer < 20; }),
                ElementsAre(4, 9, 14, 19));
    for (int i = 0; i < spec.num_layers(); ++i) {
      const LayerSpec& layer = spec.layers[i];
      EXPECT_EQ(layer.kv_layer, i < 20 ? i : layer.reach == Reach::kFull ? 19 : 18) << i;
      EXPECT_EQ(layer.sparsity, i < 10 ? 0.95 : 0);
      EXPECT_EQ(layer.rope, layer.reach == Reach::kFull ? 0 : 1);
    }
    EXPECT_EQ(spec.gqa->scale, 1);
    EXPECT_EQ(spec.logit_softcap, 30);
  }
  EXPECT_THAT(Refusal(Gemma3n(10, 9, 64)), HasSubstr("num_kv_shared_layers 9"));
  EXPECT_THAT(Refusal(With(Gemma3n(30, 10, 64), "intermediate_size", json::array({1, 2}))), HasSubstr("list of 30"));
}

// The published 4B config leaves out what equals the class's defaults, and stop ids stand outside the tower.
TEST(SpecFamilies, Gemma3MultimodalLeavesDefaultsOut) {
  const json config = {{"model_type", "gemma3"},
                       {"eos_token_id", {1, 106}},
                       {"text_config",
                        {{"model_type", "gemma3_text"},
                         {"hidden_size", 2560},
                         {"intermediate_size", 10240},
                         {"num_hidden_layers", 34},
                         {"sliding_window", 1024},
                         {"rope_scaling", {{"factor", 8.0}, {"rope_type", "linear"}}}}}};
  const ModelSpec spec = Parse(config);
  EXPECT_NEAR(static_cast<double>(CountParameters(spec).total) / 1e9, 3.880, 0.0005);
  EXPECT_THAT(Layers(spec, [](const LayerSpec& l) { return l.reach == Reach::kFull; }), ElementsAre(5, 11, 17, 23, 29));
  EXPECT_EQ(spec.layers[0].extent, 1024);
  EXPECT_EQ(spec.ropes[0].theta, 1e6);
  EXPECT_EQ(spec.ropes[0].linear, 8);
  EXPECT_EQ(spec.ropes[1].theta, 1e4);
  EXPECT_EQ(spec.ropes[1].linear, 1);
  EXPECT_EQ(spec.norm, NormKind::kRmsPlusOne);
  EXPECT_EQ(spec.gqa->scale, 1.0 / 16);
  EXPECT_TRUE(spec.tied_embeddings);
  EXPECT_THAT(spec.eos_ids, ElementsAre(1, 106));
  const json& text = config["text_config"];
  EXPECT_THAT(Refusal(With(text, "attn_logit_softcapping", 50.0)), HasSubstr("attn_logit_softcapping"));
  EXPECT_THAT(Refusal(With(text, "hidden_activation", "silu")), HasSubstr("hidden_activation"));
  EXPECT_THAT(Refusal(With(text, "layer_types", json::array({"full_attention"}))), HasSubstr("list of 34"));
  EXPECT_EQ(Parse(With(text, "query_pre_attn_scalar", 168)).gqa->scale, 1 / std::sqrt(168.0));
}

json Dense(const char* type) {
  return {{"model_type", type},       {"vocab_size", 320},
          {"hidden_size", 128},       {"num_hidden_layers", 8},
          {"num_attention_heads", 8}, {"num_key_value_heads", 2},
          {"intermediate_size", 256}, {"max_position_embeddings", 4096},
          {"rope_theta", 1e6}};
}

TEST(SpecFamilies, SmolLm3TurnsThreeOfFour) {
  EXPECT_THAT(Layers(Parse(Dense("smollm3")), [](const LayerSpec& l) { return l.rope < 0; }), ElementsAre(3, 7));
  const json flags = json::array({0, 1, 1, 1, 1, 1, 1, 0});  // 1: the layer has rope
  EXPECT_THAT(
      Layers(Parse(With(Dense("smollm3"), "no_rope_layers", flags)), [](const LayerSpec& l) { return l.rope < 0; }),
      ElementsAre(0, 7));
  json config = Dense("smollm3");
  config.erase("rope_theta");
  EXPECT_THAT(Refusal(config), HasSubstr("rope_theta is missing"));
  EXPECT_TRUE(Parse(Dense("smollm3")).tied_embeddings);
}

TEST(SpecFamilies, HeadsAreNotHiddenDividedByTheirNumber) {
  EXPECT_EQ(Parse(Dense("qwen3")).gqa->head_dim, 128);
  EXPECT_EQ(Parse(Dense("llama")).gqa->head_dim, 16);
  EXPECT_EQ(Parse(With(Dense("mistral"), "head_dim", 32)).gqa->head_dim, 32);
  EXPECT_EQ(Parse(Dense("qwen3")).gqa->qk_norm, QkNorm::kPerHead);
  EXPECT_EQ(Parse(Dense("olmo2")).gqa->qk_norm, QkNorm::kAllHeads);
  EXPECT_THAT(Refusal(With(Dense("llama"), "num_key_value_heads", 3)), HasSubstr("does not divide"));
  EXPECT_THAT(Refusal(With(Dense("llama"), "head_dim", 15)), HasSubstr("even"));
}

TEST(SpecFamilies, WhatADenseModelCannotHaveIsRefused) {
  for (const char* type : {"llama", "mistral", "qwen3", "olmo2", "smollm3"}) {
    EXPECT_THAT(Refusal(With(Dense(type), "attention_bias", true)), HasSubstr("attention_bias")) << type;
    EXPECT_THAT(Refusal(With(Dense(type), "hidden_act", "gelu")), HasSubstr("hidden_act")) << type;
    EXPECT_THAT(Refusal(With(Dense(type), "rope_scaling", {{"type", "dynamic"}})), HasSubstr("dynamic")) << type;
  }
  EXPECT_THAT(Refusal(With(Dense("qwen3"), "use_sliding_window", true)), HasSubstr("use_sliding_window"));
  const ModelSpec window = Parse(With(Dense("mistral"), "sliding_window", 4096));  // Mistral 7B
  EXPECT_EQ(window.layers[7].reach, Reach::kSliding);
  EXPECT_EQ(window.layers[7].extent, 4096);
}

TEST(SpecFamilies, MistralsOuterTieMeansNothing) {
  json config = {{"model_type", "mistral3"}, {"tie_word_embeddings", true}, {"text_config", Dense("mistral")}};
  EXPECT_FALSE(Parse(config).tied_embeddings);
  config["text_config"].erase("model_type");
  EXPECT_EQ(Parse(config).model_type, "mistral");
  config["text_config"]["tie_word_embeddings"] = true;
  EXPECT_TRUE(Parse(config).tied_embeddings);
}

json Llama4(int64_t step) {
  json text = Dense("llama4_text");
  text["num_hidden_layers"] = 12;
  text["intermediate_size_mlp"] = 512;
  text["num_local_experts"] = 8;
  text["num_experts_per_tok"] = 1;
  text["interleave_moe_layer_step"] = step;
  return {{"model_type", "llama4"}, {"text_config", text}, {"eos_token_id", json::array({1, 7})}};
}

TEST(SpecFamilies, Llama4SaysWhichLayersDoWhat) {
  const ModelSpec scout = Parse(Llama4(1)), maverick = Parse(Llama4(2));
  EXPECT_THAT(Layers(scout, [](const LayerSpec& l) { return l.rope < 0; }), ElementsAre(3, 7, 11));
  EXPECT_THAT(Layers(scout, [](const LayerSpec& l) { return l.reach == Reach::kFull; }), ElementsAre(3, 7, 11));
  EXPECT_EQ(Layers(scout, [](const LayerSpec& l) { return l.moe; }).size(), 12u);
  EXPECT_THAT(Layers(maverick, [](const LayerSpec& l) { return l.moe; }), ElementsAre(1, 3, 5, 7, 9, 11));
  EXPECT_EQ(maverick.layers[0].mlp, 512);
  EXPECT_EQ(scout.layers[0].extent, 8192);
  EXPECT_TRUE(scout.ropes[0].interleaved);
  EXPECT_EQ(scout.gqa->qk_norm, QkNorm::kL2);
  EXPECT_THAT(scout.eos_ids, ElementsAre(1, 7));
  json config = Llama4(1);
  config["text_config"]["use_qk_norm"] = false;
  config["text_config"]["no_rope_layers"] = json::array();
  EXPECT_EQ(Parse(config).gqa->qk_norm, QkNorm::kNone);
  config["text_config"]["num_experts_per_tok"] = 2;
  EXPECT_THAT(Refusal(config), HasSubstr("num_experts_per_tok is 2; 1 is supported"));
}

TEST(SpecFamilies, Qwen3MoeLayers) {
  json config = Dense("qwen3_moe");
  config["num_experts"] = 16;
  config["num_experts_per_tok"] = 4;
  config["moe_intermediate_size"] = 32;
  EXPECT_EQ(Layers(Parse(config), [](const LayerSpec& l) { return l.moe; }).size(), 8u);
  config["mlp_only_layers"] = {0, 5};
  config["decoder_sparse_step"] = 2;
  EXPECT_THAT(Layers(Parse(config), [](const LayerSpec& l) { return l.moe; }), ElementsAre(1, 3, 7));
  EXPECT_FALSE(Parse(config).moe->normalize);  // norm_topk_prob is false where it is not said
  config["mlp_only_layers"] = {8};
  EXPECT_THAT(Refusal(config), HasSubstr("mlp_only_layers"));
}

TEST(SpecFamilies, Gpt2) {
  json config = {{"model_type", "gpt2"}, {"vocab_size", 50257}, {"n_embd", 768},
                 {"n_head", 12},         {"n_layer", 12},       {"n_positions", 1024}};
  const ModelSpec spec = Parse(config);
  EXPECT_EQ(CountParameters(spec).total, 124'439'808);
  EXPECT_EQ(spec.layers[0].mlp, 3072);
  EXPECT_TRUE(spec.tied_embeddings);
  EXPECT_THAT(Refusal(With(config, "n_head", 11)), HasSubstr("n_head 11"));
  EXPECT_THAT(Refusal(With(config, "activation_function", "relu")), HasSubstr("activation_function"));
}

// Lines of blocks: groups of 4 and 2 layers are cut into blocks of 2.
TEST(SpecFamilies, KvLayoutSharesOnePool) {
  json config = With(Dense("llama"), "num_hidden_layers", 8);
  ModelSpec spec = Parse(config);
  EXPECT_EQ(KvLayoutOf(spec).line, 1);
  EXPECT_EQ(KvLayoutOf(spec).block_layers, 8);
  for (const int i : {1, 2, 4, 5}) spec.layers[i].reach = Reach::kSliding, spec.layers[i].extent = 100;
  spec.layers[6].kv_layer = 4;
  spec.layers[7].kv_layer = 3;
  const KvLayout layout = KvLayoutOf(spec);
  ASSERT_EQ(layout.groups.size(), 2u);
  EXPECT_EQ(layout.block_layers, 2);
  EXPECT_EQ(layout.line, 3);
  EXPECT_EQ(layout.groups[1].blocks, 2);
  EXPECT_EQ(layout.layers[5].column, 2);
  EXPECT_EQ(layout.layers[5].slot, 1);
  EXPECT_EQ(layout.layers[6].column, layout.layers[4].column);
  EXPECT_EQ(layout.layers[7].column, 0);
  // 200 tokens: 4 lines of the full group; 100 positions end in at most 3 lines of the sliding one.
  EXPECT_EQ(KvBlocksHeld(layout.groups, 64, 0, 200, 1), 4 + 2 * 3);
  EXPECT_EQ(KvBlocksHeld(layout.groups, 64, 0, 128, 512), 2 + 2 * 2);
  EXPECT_EQ(LongestSequence(layout.groups, 64, 10, 100000), 256);
  EXPECT_EQ(LongestSequence(layout.groups, 64, 10, 100), 100);
  EXPECT_EQ(LongestSequence(layout.groups, 64, 2, 100), 0);
}

TEST(SpecFamilies, WindowsAndChunksEndWhereTheySay) {
  const KvGroup window{Reach::kSliding, 4, 1}, chunk{Reach::kChunked, 8, 1}, full;
  EXPECT_EQ(window.FirstVisible(10), 7);  // 7, 8, 9, 10
  EXPECT_EQ(window.FirstVisible(2), 0);
  EXPECT_EQ(chunk.FirstVisible(8), 8);  // itself
  EXPECT_EQ(chunk.FirstVisible(15), 8);
  EXPECT_EQ(full.FirstVisible(1000), 0);
}

}  // namespace
}  // namespace atl::models
