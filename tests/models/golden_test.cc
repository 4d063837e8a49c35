// The reference implementations' logits, hidden states and greedy continuations (tests/golden), profile f32.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <mutex>

#include "models/weights/checkpoint.h"
#include "tests/models/world.h"

namespace atl::models {
namespace {

constexpr float kTolerance = 1e-3f, kMargin = 2e-3f;

struct Golden {
  Checkpoint file;
  explicit Golden(const std::string& directory) {
    auto opened = Checkpoint::Open(directory + "/golden.safetensors");
    if (!opened.ok()) throw std::runtime_error(ToString(opened.status().message()));
    file = std::move(*opened);
  }
  template <typename T>
  std::vector<T> Values(const std::string& name) const {
    const TensorView* tensor = file.Find(name);
    if (tensor == nullptr) throw std::runtime_error("no tensor " + name);
    std::vector<T> values(tensor->bytes / sizeof(T));
    std::memcpy(values.data(), tensor->data, tensor->bytes);
    return values;
  }
  std::vector<int64_t> Shape(const std::string& name) const { return file.Find(name)->shape; }
};

std::string Directory(const std::string& family) {
  return std::string(ATOLL_SOURCE_DIR) + (family == "tiny-deepseek-v3" ? "/models/checkpoints/" : "/tests/golden/") +
         family;
}

float WorstDifference(const std::vector<float>& a, const float* b) {
  float worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const float difference = std::fabs(a[i] - b[i]);
    worst = difference <= worst ? worst : difference;  // a NaN stays
  }
  return worst;
}

class GoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(GoldenTest, LogitsWithinTolerance) {
  const Golden golden(Directory(GetParam()));
  const auto ids = golden.Values<int32_t>("input_ids");
  const auto logits = golden.Values<float>("logits");
  const auto shape = golden.Shape("input_ids");
  for (const parallel::Topology& topology : {parallel::Topology{1, 1}, {4, 2}}) {
    World world({.path = Directory(GetParam()), .topology = topology});
    const int64_t chunk = topology.world == 1 ? shape[1] : 32;
    for (int64_t row = 0; row < shape[0]; ++row) {
      const std::vector<int32_t> text(ids.begin() + row * shape[1], ids.begin() + (row + 1) * shape[1]);
      const std::vector<float> got = world.Score(text, shape[1], chunk, row % topology.groups());
      const float worst = WorstDifference(got, logits.data() + row * shape[1] * world.spec().vocab);
      std::printf("%s %dx%d row %d: worst difference %.3g\n", GetParam(), topology.world, topology.tp,
                  static_cast<int>(row), worst);
      EXPECT_LE(worst, kTolerance) << GetParam() << " row " << row;
    }
  }
}

TEST_P(GoldenTest, HiddenStates) {
  const Golden golden(Directory(GetParam()));
  if (golden.file.Find("hidden.0") == nullptr) GTEST_SKIP() << "this file has no hidden states";
  const auto ids = golden.Values<int32_t>("input_ids");
  const int64_t positions = golden.Shape("hidden.0")[1];
  World world({.path = Directory(GetParam()), .topology = {1, 1}});
  std::map<int64_t, std::vector<float>> seen;
  world.model(0).set_hidden_tap(
      [&](int64_t layer, std::span<const float> rows) { seen[layer].assign(rows.begin(), rows.end()); });
  world.Score({ids.begin(), ids.begin() + positions}, positions, positions);
  for (int64_t layer = 0; layer <= world.spec().num_layers(); ++layer) {
    const auto expected = golden.Values<float>(fmt::format("hidden.{}", layer));
    EXPECT_LE(WorstDifference(seen[layer], expected.data()), kTolerance) << "layer " << layer;
  }
}

// Greedy generation as the engine does it: the prompt in prompt form, then one emitted token a step.
TEST_P(GoldenTest, GreedyIds) {
  const Golden golden(Directory(GetParam()));
  const auto ids = golden.Values<int32_t>("input_ids");
  const auto expected = golden.Values<int32_t>("greedy_ids");
  const auto margins = golden.Values<float>("greedy_margin");
  const int64_t prompt = std::string(GetParam()) == "tiny-deepseek-v3" ? 64 : 24;
  World world({.path = Directory(GetParam()), .topology = {1, 1}});
  const int64_t vocab = world.spec().vocab;
  std::vector<float> logits = world.Score({ids.begin(), ids.begin() + prompt}, prompt, prompt);
  for (size_t i = 0; i < expected.size() && margins[i] > kMargin; ++i) {
    const auto last = logits.end() - vocab;
    const auto id = static_cast<int32_t>(std::max_element(last, logits.end()) - last);
    ASSERT_EQ(id, expected[i]) << "token " << i << ", margin " << margins[i];
    const auto position = static_cast<int64_t>(prompt + i);
    logits = world.Step({{Chunk{{id}, position, prompt, world.Table(position + 1, position)}}})[0];
  }
}

std::string CaseName(const testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Families, GoldenTest,
                         testing::Values("deepseek_v3", "kimi_k2", "moonlight", "tiny-deepseek-v3", "llama3", "mistral",
                                         "qwen3", "smollm3", "qwen3_moe", "olmo2", "gemma3", "llama4_scout",
                                         "llama4_maverick", "gpt2", "gemma3n"),
                         CaseName);
INSTANTIATE_TEST_SUITE_P(Quantized, GoldenTest, testing::Values("deepseek_v3-fp8", "kimi_k2-int4", "qwen3_moe-fp8"),
                         CaseName);

}  // namespace
}  // namespace atl::models
