// What config.json says about the formats of the weights: published checkpoints, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "models/spec/name_patterns.h"
#include "models/spec/rank_memory.h"

namespace atl::models {
namespace {

using testing::HasSubstr;

const std::string kConfigs = std::string(ATOLL_SOURCE_DIR) + "/tests/models/configs/";

std::map<std::string, WeightFormat> Formats(const std::string& config) {
  const auto spec = ReadModelSpec(kConfigs + config);
  if (!spec.ok()) throw std::runtime_error(ToString(spec.status().message()));
  std::map<std::string, WeightFormat> formats;
  for (const Parameter& p : Parameters(*spec)) formats[p.name] = p.format;
  return formats;
}

TEST(SpecFormats, DeepseekFp8) {
  for (const char* config : {"DeepSeek-V3.json", "DeepSeek-R1.json", "Kimi-K2-Instruct.json"}) {
    const auto formats = Formats(config);
    const auto of = [&](const std::string& name) { return formats.at(name); };
    for (const char* name :
         {"self_attn.q_a_proj", "self_attn.q_b_proj", "self_attn.kv_a_proj_with_mqa", "self_attn.kv_b_proj",
          "self_attn.o_proj", "mlp.experts.0.gate_proj", "mlp.experts.255.down_proj", "mlp.shared_experts.up_proj"}) {
      EXPECT_EQ(of(fmt::format("model.layers.4.{}.weight", name)), WeightFormat::kFp8Block) << name;
    }
    EXPECT_EQ(of("model.layers.0.mlp.gate_proj.weight"), WeightFormat::kFp8Block);
    EXPECT_EQ(of("model.layers.4.mlp.gate.weight"), WeightFormat::kBF16);
    EXPECT_EQ(of("model.embed_tokens.weight"), WeightFormat::kBF16);
    EXPECT_EQ(of("lm_head.weight"), WeightFormat::kBF16);
    EXPECT_EQ(of("model.layers.4.mlp.gate.e_score_correction_bias"), WeightFormat::kF32);
    EXPECT_EQ(of("model.layers.4.input_layernorm.weight"), WeightFormat::kF32);
  }
}

TEST(SpecFormats, Qwen3Fp8NamesWhatIsNot) {
  const auto formats = Formats("Qwen3-30B-A3B-FP8.json");
  EXPECT_EQ(formats.at("model.layers.7.self_attn.q_proj.weight"), WeightFormat::kFp8Block);
  EXPECT_EQ(formats.at("model.layers.7.mlp.experts.100.up_proj.weight"), WeightFormat::kFp8Block);
  EXPECT_EQ(formats.at("model.layers.7.mlp.gate.weight"), WeightFormat::kBF16);
  EXPECT_EQ(formats.at("lm_head.weight"), WeightFormat::kBF16);
  EXPECT_EQ(formats.at("model.embed_tokens.weight"), WeightFormat::kBF16);
}

// Only the routed experts are in 4 bits, by the expressions of `ignore`.
TEST(SpecFormats, KimiInt4) {
  for (const char* config : {"Kimi-K2-Thinking.json", "Kimi-K2.5.json"}) {
    for (const auto& [name, format] : Formats(config)) {
      const bool routed = name.find(".experts.") != std::string::npos;
      const bool vector = name.ends_with("norm.weight") || name.ends_with("_bias");
      EXPECT_EQ(format, routed   ? WeightFormat::kInt4BF16
                        : vector ? WeightFormat::kF32
                                 : WeightFormat::kBF16)
          << config << " " << name;
    }
  }
}

// Bytes of whole models on one rank, added up by hand: an FP8 element is a byte and 1/4096 of a scale.
TEST(SpecFormats, BytesOfTheWholeModel) {
  const auto weights = [](const std::string& config) {
    const auto spec = ReadModelSpec(kConfigs + config);
    const JobShape shape{.topology = {1, 1}, .numerics = {}, .kv_blocks = 1, .max_batch_tokens = 1};
    return PlanRankMemory(*spec, shape, 0,
                          parallel::ExpertPlacement::Contiguous(static_cast<int>(spec->moe->experts), 1))
        .weights;
  };
  const auto kind = [](ParameterKind k) { return static_cast<size_t>(k); };
  const auto v3 = weights("DeepSeek-V3.json");
  EXPECT_EQ(v3[kind(ParameterKind::kRoutedExpert)], int64_t{58} * 256 * 3 * (7168 * 2048 + 56 * 16 * 4));
  EXPECT_EQ(v3[kind(ParameterKind::kDense)], int64_t{3} * 3 * (7168 * 18432 + 56 * 144 * 4));
  EXPECT_EQ(v3[kind(ParameterKind::kEmbedding)], int64_t{129280} * 7168 * 2);
  // kv_a_proj_with_mqa has 576 rows: five rows of scales, padded to the arena's 64 bytes.
  EXPECT_EQ(v3[kind(ParameterKind::kAttention)],
            int64_t{61} * (1536 * 7168 + 12 * 56 * 4 + 24576 * 1536 + 192 * 12 * 4 + 576 * 7168 + (5 * 56 * 4 + 32) +
                           32768 * 512 + 256 * 4 * 4 + 7168 * 16384 + 56 * 128 * 4));
  const auto thinking = weights("Kimi-K2-Thinking.json");
  EXPECT_EQ(thinking[kind(ParameterKind::kRoutedExpert)],
            int64_t{60} * 384 * 3 * (7168 * 2048 / 2 + 7168 * 2048 / 32 * 2));
  EXPECT_EQ(thinking[kind(ParameterKind::kSharedExpert)], int64_t{60} * 3 * 7168 * 2048 * 2);
}

nlohmann::json Config(const std::string& name) {
  std::ifstream file(kConfigs + name);
  return nlohmann::json::parse(file);
}
std::string Error(const nlohmann::json& config) {
  const auto spec = ParseModelSpec(config.dump());
  return spec.ok() ? "ok" : ToString(spec.status().message());
}

TEST(SpecFormats, PlainTypes) {
  nlohmann::json config = Config("Moonlight-16B-A3B-Instruct.json");
  for (const auto& [type, format] : {std::pair<const char*, WeightFormat>{"float32", WeightFormat::kF32},
                                     {"float16", WeightFormat::kF16},
                                     {"bfloat16", WeightFormat::kBF16}}) {
    config["torch_dtype"] = type;
    const auto spec = ParseModelSpec(config.dump());
    ASSERT_TRUE(spec.ok()) << spec.status();
    EXPECT_EQ(spec->formats.Of("lm_head.weight", ParameterKind::kHead), format);
    EXPECT_EQ(Parameters(*spec)[1].format, WeightFormat::kF32);  // the first norm
  }
  config["torch_dtype"] = "float8_e4m3fn";
  EXPECT_THAT(Error(config), HasSubstr("torch_dtype is float8_e4m3fn; it must be bfloat16, float16 or float32"));
  config["torch_dtype"] = 16;
  EXPECT_THAT(Error(config), HasSubstr("torch_dtype is 16; it must be a string"));
}

TEST(SpecFormats, OtherQuantisationsAreRefused) {
  const auto with = [](const std::string& config, const std::string& pointer, const nlohmann::json& value) {
    nlohmann::json changed = Config(config);
    changed[nlohmann::json::json_pointer("/quantization_config" + pointer)] = value;
    return Error(changed);
  };
  const std::string fp8 = "DeepSeek-V3.json", int4 = "Kimi-K2-Thinking.json", group = "/config_groups/group_0";
  EXPECT_EQ(with(fp8, "/activation_scheme", "static"), "ok");  // weights only
  EXPECT_THAT(with(fp8, "", "fp8"), HasSubstr("quantization_config must be an object or null"));
  EXPECT_THAT(with(fp8, "/quant_method", "gptq"), HasSubstr("quant_method gptq is not supported"));
  EXPECT_THAT(with(fp8, "/quant_method", nullptr), HasSubstr("quant_method is missing"));
  EXPECT_THAT(with(fp8, "/weight_block_size", {64, 64}),
              HasSubstr("weight_block_size is [64,64]; it must be [128,128]"));
  EXPECT_THAT(with(fp8, "/weight_block_size", nullptr), HasSubstr("weight_block_size is missing"));
  EXPECT_THAT(with(fp8, "/fmt", "e5m2"), HasSubstr("fmt is \"e5m2\""));
  EXPECT_THAT(with(fp8, "/modules_to_not_convert", 3), HasSubstr("modules_to_not_convert must be a list"));
  EXPECT_THAT(with(int4, "/format", "marlin-24"), HasSubstr("format is \"marlin-24\""));
  EXPECT_THAT(with(int4, "/config_groups", nlohmann::json::object()), HasSubstr("config_groups must be one group"));
  EXPECT_THAT(with(int4, group, 4), HasSubstr("config_groups must hold an object"));
  EXPECT_THAT(with(int4, group + "/weights", nullptr), HasSubstr("config_groups has no weights"));
  EXPECT_THAT(with(int4, group + "/weights/num_bits", 8), HasSubstr("num_bits is 8; it must be 4"));
  EXPECT_THAT(with(int4, group + "/weights/symmetric", false), HasSubstr("symmetric is false"));
  EXPECT_THAT(with(int4, group + "/weights/group_size", 128), HasSubstr("group_size is 128; it must be 32"));
  EXPECT_THAT(with(int4, group + "/input_activations", {{"num_bits", 8}}), HasSubstr("input_activations is"));
  EXPECT_THAT(with(int4, "/ignore", {"re:(*"}), HasSubstr("ignore: re:(* is not a regular expression"));
  EXPECT_THAT(with(int4, "/ignore", {1}), HasSubstr("ignore must be a list of module names"));
}

TEST(NamePatterns, NamesAndExpressions) {
  const auto patterns = NamePatterns::Compile({"lm_head", "model.layers.1", R"(re:.*mlp\.(gate|up)_proj.*)"}, "ignore");
  ASSERT_TRUE(patterns.ok()) << patterns.status();
  EXPECT_TRUE(patterns->Match("lm_head"));
  EXPECT_FALSE(patterns->Match("lm_heads"));
  EXPECT_FALSE(patterns->Match("model.lm_head"));
  EXPECT_TRUE(patterns->Match("model.layers.1.self_attn.q_proj"));
  EXPECT_FALSE(patterns->Match("model.layers.10.self_attn.q_proj"));
  EXPECT_TRUE(patterns->Match("model.layers.0.mlp.gate_proj"));
  EXPECT_FALSE(patterns->Match("model.layers.0.mlp.experts.3.gate_proj"));
  const auto anchored = NamePatterns::Compile({"re:mlp"}, "ignore");
  EXPECT_TRUE(anchored->Match("mlp.x"));
  EXPECT_FALSE(anchored->Match("model.mlp"));
}

// An expression made to run for ever ends.
TEST(NamePatterns, HostileExpressionsEnd) {
  const auto patterns = NamePatterns::Compile({"re:(a+)+b", "re:((a*)*)*b", "re:(?R)?a"}, "ignore");
  ASSERT_TRUE(patterns.ok()) << patterns.status();
  EXPECT_FALSE(patterns->Match("x" + std::string(200, 'a')));
  patterns->Match(std::string(200, 'a'));
  EXPECT_FALSE(NamePatterns::Compile({"re:" + std::string(10000, '(')}, "ignore").ok());
}

}  // namespace
}  // namespace atl::models
