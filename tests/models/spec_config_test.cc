// config.json read and refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "models/spec/model_spec.h"

namespace atl::models {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::string kSource = ATOLL_SOURCE_DIR;
const std::string kConfigs = kSource + "/tests/models/configs/";

nlohmann::json BaseConfig() {
  std::ifstream file(kConfigs + "DeepSeek-V3.json");
  return nlohmann::json::parse(file);
}

TEST(SpecConfig, PublishedConfigsParse) {
  for (const char* name : {"tests/models/configs/DeepSeek-R1.json", "tests/models/configs/Kimi-K2-Instruct.json",
                           "tests/models/configs/Kimi-K2-Thinking.json", "tests/models/configs/Kimi-K2.5.json",
                           "tests/models/configs/Moonlight-16B-A3B-Instruct.json",
                           "tests/models/configs/bench_v3mini.json", "tests/models/configs/bench_kimi_k2_2layer.json",
                           "tests/models/configs/bench_deepseek_v3_slice.json", "tests/golden/deepseek_v3",
                           "tests/golden/kimi_k2", "tests/golden/moonlight", "models/checkpoints/tiny-deepseek-v3"}) {
    const auto spec = ReadModelSpec(kSource + "/" + name);
    ASSERT_TRUE(spec.ok()) << name << ": " << spec.status();
    EXPECT_EQ(spec->architecture, "deepseek_v3");
    ASSERT_TRUE(spec->moe);
  }
}

TEST(SpecConfig, DeepSeekV3) {
  const auto spec = ReadModelSpec(kConfigs + "DeepSeek-V3.json");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->hidden, 7168);
  EXPECT_EQ(spec->num_layers(), 61);
  EXPECT_EQ(spec->heads, 128);
  EXPECT_EQ(spec->mtp_layers, 1);
  EXPECT_EQ(spec->mla->q_lora_rank, 1536);
  EXPECT_EQ(spec->mla->latent_dim(), 576);
  EXPECT_EQ(spec->mla->qk_dim(), 192);
  EXPECT_EQ(spec->moe->groups, 8);
  EXPECT_EQ(spec->moe->groups_kept, 4);
  EXPECT_EQ(spec->moe->scaling, 2.5);
  EXPECT_EQ(spec->moe->shared_intermediate, 2048);
  EXPECT_FALSE(spec->layers[2].moe);
  EXPECT_TRUE(spec->layers[3].moe);
  ASSERT_TRUE(spec->ropes[0].yarn);
  EXPECT_EQ(spec->ropes[0].yarn->factor, 40);
  EXPECT_EQ(spec->ropes[0].yarn->original_positions, 4096);
  EXPECT_THAT(spec->eos_ids, ElementsAre(1));
}

TEST(SpecConfig, MoonlightHasNoQueryLoraAndNoYarn) {
  const auto spec = ReadModelSpec(kConfigs + "Moonlight-16B-A3B-Instruct.json");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->mla->q_lora_rank, 0);
  EXPECT_EQ(spec->norm_eps, 1e-5);
  EXPECT_FALSE(spec->ropes[0].yarn);
  EXPECT_EQ(spec->moe->shared_intermediate, 2 * 1408);
}

TEST(SpecConfig, NestedTextConfigOfKimiK25) {
  const auto spec = ReadModelSpec(kConfigs + "Kimi-K2.5.json");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->model_type, "kimi_k2");
  EXPECT_EQ(spec->ropes[0].yarn->factor, 64);
}

TEST(SpecConfig, YarnUnderEitherKey) {
  nlohmann::json config = BaseConfig();
  config["rope_scaling"].erase("type");
  config["rope_scaling"]["rope_type"] = "yarn";
  EXPECT_TRUE(ParseModelSpec(config.dump()).ok());
  config["rope_scaling"] = nullptr;
  const auto plain = ParseModelSpec(config.dump());
  ASSERT_TRUE(plain.ok());
  EXPECT_FALSE(plain->ropes[0].yarn);
}

// Kimi K2's config.json and generation_config.json name different stop ids: both stop.
TEST(SpecConfig, StopIdsAreMerged) {
  const auto directory = std::filesystem::path(testing::TempDir()) / "spec_stop_ids";
  std::filesystem::create_directories(directory);
  nlohmann::json config = BaseConfig();
  config["eos_token_id"] = 7;
  std::ofstream(directory / "config.json") << config;
  std::ofstream(directory / "generation_config.json") << R"({"eos_token_id": [7, 9, 8]})";
  const auto spec = ReadModelSpec(directory.string());
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(spec->eos_ids, ElementsAre(7, 9, 8));

  std::ofstream(directory / "generation_config.json") << R"({"eos_token_id": ["</s>"]})";
  EXPECT_THAT(ToString(ReadModelSpec(directory.string()).status().message()), HasSubstr("eos_token_id"));
}

struct Bad {
  const char* key;   // "a/b" is a key of an object
  const char* json;  // its value; "" takes the key away
  const char* says;
};

TEST(SpecConfig, BadValuesAreNamed) {
  const Bad cases[] = {
      {"model_type", R"("mamba")", "model_type mamba is not supported; deepseek_v2 (DeepSeek-V2-Lite), deepseek_v3"},
      {"model_type", "7", "model_type is 7; it must be a string"},
      {"model_type", "", "model_type is missing"},
      {"hidden_size", "", "hidden_size is missing"},
      {"hidden_size", "null", "hidden_size is missing"},
      {"hidden_size", R"("7168")", "hidden_size"},
      {"hidden_size", "7168.5", "hidden_size"},
      {"hidden_size", "0", "hidden_size is 0"},
      {"hidden_size", "-7168", "hidden_size is -7168"},
      {"hidden_size", "18446744073709551615", "hidden_size"},
      {"hidden_size", "1e300", "hidden_size"},
      {"vocab_size", "99999999999", "vocab_size"},
      {"num_hidden_layers", "[61]", "num_hidden_layers"},
      {"num_hidden_layers", "1000000", "num_hidden_layers"},
      {"num_attention_heads", "0", "num_attention_heads"},
      {"kv_lora_rank", "", "kv_lora_rank is missing"},
      {"qk_rope_head_dim", "63", "must be even"},
      {"rope_theta", R"("1e4")", "rope_theta"},
      {"rope_theta", "", "rope_theta is missing"},
      {"rope_scaling", "40", "rope_scaling must be an object"},
      {"rope_scaling/type", R"("llama3")", "llama3 is not supported"},
      {"rope_scaling/factor", "", "factor is missing"},
      {"rope_scaling/factor", "0.5", "factor"},
      {"rope_scaling/original_max_position_embeddings", "", "original_max_position_embeddings is missing"},
      {"num_experts_per_tok", "0", "num_experts_per_tok"},
      {"num_experts_per_tok", "1024", "num_experts_per_tok"},
      {"n_routed_experts", "4", "num_experts_per_tok is 8, but n_routed_experts is 4"},
      {"n_group", "7", "n_group 7 does not divide n_routed_experts 256"},
      {"n_group", "256", "leaves"},
      {"topk_group", "9", "topk_group 9"},
      {"scoring_func", R"("softmax")", "scoring_func"},
      {"topk_method", R"("greedy")", "topk_method"},
      {"first_k_dense_replace", "62", "first_k_dense_replace"},
      {"hidden_act", R"("gelu")", "hidden_act"},
      {"attention_bias", "true", "attention_bias"},
      {"tie_word_embeddings", R"("no")", "tie_word_embeddings"},
      {"eos_token_id", "-1", "eos_token_id"},
      {"eos_token_id", "129280", "eos_token_id"},
      {"eos_token_id", R"([1, "x"])", "eos_token_id"},
      {"n_routed_experts", "65536", "experts; at most"},
      {"moe_intermediate_size", "1048576", "parameters; at most"},
  };
  for (const Bad& bad : cases) {
    nlohmann::json config = BaseConfig();
    std::string key = bad.key;
    nlohmann::json* object = &config;
    if (const auto slash = key.find('/'); slash != std::string::npos) {
      object = &config[key.substr(0, slash)];
      key = key.substr(slash + 1);
    }
    if (*bad.json == '\0') {
      object->erase(key);
    } else {
      (*object)[key] = nlohmann::json::parse(bad.json);
    }
    const auto spec = ParseModelSpec(config.dump());
    ASSERT_FALSE(spec.ok()) << bad.key << " = " << bad.json;
    EXPECT_EQ(spec.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(ToString(spec.status().message()), HasSubstr(bad.says)) << bad.key << " = " << bad.json;
  }
}

TEST(SpecConfig, BadTextIsRefused) {
  const std::string whole = BaseConfig().dump();
  const std::string texts[] = {"",
                               "{",
                               "[]",
                               "null",
                               "\xff\xfe",
                               whole.substr(0, whole.size() / 2),
                               whole + "}",
                               std::string(100000, '['),
                               R"({"model_type": "deepseek_v3"})",
                               R"({"text_config": {}})"};
  for (const std::string& text : texts) {
    EXPECT_EQ(ParseModelSpec(text).status().code(), absl::StatusCode::kInvalidArgument) << text.substr(0, 60);
  }
}

TEST(SpecConfig, MissingFilesAreRefused) {
  EXPECT_EQ(ReadModelSpec("/nowhere/at/all").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReadModelSpec(testing::TempDir()).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace atl::models
