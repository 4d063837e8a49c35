// `atoll inspect`: its numbers are the planner's, and what cannot be is refused before a file of weights is opened.
#include "coordinator/cli/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "models/spec/rank_memory.h"

namespace atl::coordinator {
namespace {

using testing::HasSubstr;

const std::string kSource = ATOLL_SOURCE_DIR;
const std::string kTiny = kSource + "/models/checkpoints/tiny-deepseek-v3";
const std::string kV3 = kSource + "/tests/models/configs/DeepSeek-V3.json";

nlohmann::json Report(InspectOptions options) {
  options.json = true;
  const auto report = InspectReport(options);
  EXPECT_TRUE(report.ok()) << report.status();
  return nlohmann::json::parse(report.value_or("{}"));
}

std::string Error(const InspectOptions& options) {
  const auto report = InspectReport(options);
  return report.ok() ? "ok" : ToString(report.status().message());
}

TEST(Inspect, EachRanksBytesAreThePlanners) {
  const InspectOptions options{.path = kTiny, .ranks = 3, .tp = 1, .kv_tokens = 100, .max_batch_tokens = 33};
  const nlohmann::json report = Report(options);
  const auto spec = models::ReadModelSpec(kTiny);
  ASSERT_TRUE(spec.ok());
  const models::JobShape shape{.topology = {3, 1}, .numerics = {}, .kv_blocks = 2, .max_batch_tokens = 33};
  const auto placement = parallel::ExpertPlacement::Contiguous(static_cast<int>(spec->moe->experts), 3);
  ASSERT_EQ(report["memory"].size(), 3u);
  for (int rank = 0; rank < 3; ++rank) {  // 32 experts over 3 ranks: not all are equal
    const models::RankMemory memory = models::PlanRankMemory(*spec, shape, rank, placement);
    const nlohmann::json& mine = report["memory"][rank];
    EXPECT_EQ(mine["rank"], rank);
    EXPECT_EQ(mine["weight_bytes"], memory.weight_bytes());
    EXPECT_EQ(mine["weights"]["routed experts"],
              memory.weights[static_cast<size_t>(models::ParameterKind::kRoutedExpert)]);
    EXPECT_EQ(mine["kv"], memory.kv);
    EXPECT_EQ(mine["workspace"], memory.workspace);
    EXPECT_EQ(mine["exchange"], memory.exchange);
    EXPECT_EQ(mine["total"], memory.total());
  }
  EXPECT_NE(report["memory"][0]["weight_bytes"], report["memory"][2]["weight_bytes"]);
  EXPECT_EQ(report["shape"]["kv_tokens_per_group"], 128);
}

TEST(Inspect, ConfigAloneIsEnough) {
  const nlohmann::json report = Report({.path = kV3, .ranks = 64, .tp = 8, .profile = "bf16"});
  // The published matrices and norms, and the routers' biases.
  EXPECT_EQ(report["parameters"]["total"], 671026404352 + 58 * 256);
  EXPECT_EQ(report["kv_bytes_per_token"], 70272);
  EXPECT_EQ(report["memory"].size(), 64u);
  EXPECT_FALSE(report["weights"]["found"]);
}

TEST(Inspect, PeopleReadATable) {
  const auto text = InspectReport({.path = kTiny, .ranks = 4, .tp = 2});
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_THAT(*text, HasSubstr("8.44 M in all"));
  EXPECT_THAT(*text, HasSubstr("all 455 tensors found"));
  EXPECT_THAT(*text, HasSubstr("0-3\n"));  // one column: all ranks hold the same bytes
  EXPECT_THAT(*text, HasSubstr("routed experts"));
}

TEST(Inspect, WeightsThatDoNotFitTheConfigAreSaid) {
  const auto directory = std::filesystem::path(testing::TempDir()) / "inspect_weights";
  std::filesystem::remove_all(directory);
  std::filesystem::create_directories(directory);
  std::ifstream file(kTiny + "/config.json");
  nlohmann::json config = nlohmann::json::parse(file);
  std::ofstream(directory / "config.json") << config;
  EXPECT_THAT(Report({.path = directory})["weights"]["says"].get<std::string>(), HasSubstr("holds no weights"));

  config["intermediate_size"] = config["intermediate_size"].get<int>() + 8;
  std::ofstream(directory / "config.json") << config;
  std::filesystem::create_symlink(kTiny + "/model.safetensors", directory / "model.safetensors");
  const nlohmann::json report = Report({.path = directory});
  EXPECT_FALSE(report["weights"]["found"]);
  EXPECT_THAT(report["weights"]["says"].get<std::string>(), HasSubstr("mlp.gate_proj.weight is ["));
  std::filesystem::remove_all(directory);
}

TEST(Inspect, EachLayerIsDescribed) {
  const nlohmann::json gemma = Report({.path = kSource + "/tests/golden/gemma3", .profile = "bf16"});
  EXPECT_EQ(gemma["family"], "Gemma 3");
  ASSERT_EQ(gemma["per_layer"].size(), 7u);
  EXPECT_EQ(gemma["per_layer"][0]["attention"], "sliding 8");
  EXPECT_EQ(gemma["per_layer"][0]["rope_theta"], 10000);
  EXPECT_EQ(gemma["per_layer"][5]["attention"], "full");
  EXPECT_EQ(gemma["per_layer"][5]["kv_bytes_per_token"], 2 * 2 * 4 * 32);
  EXPECT_EQ(gemma["kv_bytes_per_token"], 7 * 2 * 2 * 4 * 32);
  // 4096 positions: 64 lines of the full layer, at most 2 lines of the six that see 8 positions.
  EXPECT_EQ(gemma["kv_bytes_of_max_positions"], (64 + 6 * 2) * 64 * 2 * 2 * 4 * 32);
  EXPECT_TRUE(gemma["weights"]["found"]) << gemma["weights"];
  int64_t parameters = 320 * 128 + 128;  // embedding and last norm
  for (const nlohmann::json& layer : gemma["per_layer"]) parameters += layer["parameters"].get<int64_t>();
  EXPECT_EQ(gemma["parameters"]["total"], parameters);

  const nlohmann::json maverick = Report({.path = kSource + "/tests/golden/llama4_maverick"});
  EXPECT_EQ(maverick["per_layer"][1]["feed_forward"], "1 of 8 x 64 + 64");
  EXPECT_EQ(maverick["per_layer"][2]["feed_forward"], "mlp 160");
  EXPECT_EQ(maverick["per_layer"][3]["rope_theta"], nullptr);
  EXPECT_EQ(maverick["per_layer"][1]["parameters"].get<int64_t>() - maverick["per_layer"][1]["active"].get<int64_t>(),
            7 * 3 * 64 * 128);
  EXPECT_TRUE(maverick["weights"]["found"]) << maverick["weights"];

  const auto text = InspectReport({.path = kSource + "/tests/golden/gemma3"});
  ASSERT_TRUE(text.ok());
  EXPECT_THAT(*text, HasSubstr("0-4,6\n"));
  EXPECT_THAT(*text, HasSubstr("sliding 8"));
}

TEST(Inspect, WhatFitsInAMemory) {
  InspectOptions options{.path = kV3, .ranks = 64, .tp = 8, .profile = "bf16", .weights = "bf16", .memory = "64GB"};
  const nlohmann::json fit = Report(options)["fit"];
  EXPECT_TRUE(fit["fits"]);
  // One line of KV blocks more would not fit, this many do.
  const int64_t line = 64 * 70272, left = 64'000'000'000 - fit["bytes_without_kv"].get<int64_t>();
  EXPECT_EQ(fit["kv_tokens_per_group"], left / line * 64);
  EXPECT_EQ(fit["longest_sequence"], std::min<int64_t>(163840, left / line * 64));
  options.kv_tokens = fit["kv_tokens_per_group"];
  EXPECT_LE(Report(options)["memory"][0]["total"], 64'000'000'000);

  options.memory = "4GB";
  const nlohmann::json less = Report(options)["fit"];
  EXPECT_FALSE(less["fits"]);
  EXPECT_EQ(less.count("works"), 0u) << "attention alone is more";
  options.memory = "20GiB";
  const nlohmann::json works = Report(options)["fit"]["works"];
  InspectOptions least = options;
  least.ranks = works["ranks"], least.tp = works["tp"];
  EXPECT_TRUE(Report(least)["fit"]["fits"]) << works;
  const auto text = InspectReport(options);
  ASSERT_TRUE(text.ok());
  EXPECT_THAT(*text, HasSubstr(fmt::format("--ranks {} --tp {} works", least.ranks, least.tp)));
}

TEST(Inspect, AnotherWeightFormatChangesTheBytes) {
  const auto bytes = [](const std::string& weights) {
    const nlohmann::json report = Report({.path = kV3, .ranks = 64, .tp = 8, .weights = weights});
    return report["memory"][0]["weights"];
  };
  const nlohmann::json bf16 = bytes("bf16"), f32 = bytes("f32"), q8 = bytes("q8_0");
  EXPECT_EQ(f32["routed experts"].get<int64_t>(), 2 * bf16["routed experts"].get<int64_t>());
  EXPECT_EQ(q8["routed experts"].get<int64_t>() * 32, bf16["routed experts"].get<int64_t>() * 17);  // 34 bytes for 32
  EXPECT_LT(bf16["embedding"], f32["embedding"]);
}

TEST(Inspect, MatFormerSlices) {
  const std::string path = kSource + "/tests/golden/gemma3n";
  const nlohmann::json whole = Report({.path = path}), part = Report({.path = path, .matformer = "skip=8 mlp=128"});
  EXPECT_EQ(part["layers"], 9);
  EXPECT_TRUE(part["weights"]["found"]) << part["weights"];
  EXPECT_LT(part["parameters"]["active"], whole["parameters"]["active"]);
  EXPECT_THAT(Error({.path = path, .matformer = "skip=11"}), HasSubstr("--matformer"));
  EXPECT_THAT(Error({.path = kTiny, .matformer = "skip=1"}), HasSubstr("--matformer slices Gemma 3n"));
}

TEST(Inspect, WhatCannotBeIsRefused) {
  EXPECT_THAT(Error({.path = kTiny, .weights = "q9"}), HasSubstr("--weights q9 is unknown; there are: f32"));
  EXPECT_THAT(Error({.path = kTiny, .memory = "much"}), HasSubstr("--memory much is not understood"));
  EXPECT_THAT(Error({.path = kTiny, .memory = "-3GB"}), HasSubstr("--memory"));

  EXPECT_THAT(Error({.path = "/nowhere"}), HasSubstr("/nowhere cannot be opened"));
  EXPECT_THAT(Error({.path = kTiny, .ranks = 4, .tp = 3}), HasSubstr("--tp 2 works"));
  EXPECT_THAT(Error({.path = kTiny, .ranks = 33}), HasSubstr("--ranks 32 works"));
  EXPECT_THAT(Error({.path = kTiny, .profile = "fp4"}), HasSubstr("--profile fp4 is unknown"));
  EXPECT_THAT(Error({.path = kTiny, .kv_tokens = 0}), HasSubstr("--kv-tokens"));
  EXPECT_THAT(Error({.path = kTiny, .max_batch_tokens = 0}), HasSubstr("--max-batch-tokens"));
}

}  // namespace
}  // namespace atl::coordinator
