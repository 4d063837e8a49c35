// Multimodal checkpoints put the text tower under a prefix and other towers beside it, GPT-2's may go without one: the
// same answers, bit for bit, and nothing of the other towers is asked for.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "models/weights/checkpoint.h"
#include "tests/models/world.h"

namespace atl::models {
namespace {

namespace fs = std::filesystem;

struct Naming {
  const char* fixture;
  const char* model_type;  // of the whole; empty: config.json stays as it is
  const char* from;        // prefix of the fixture's tensors
  const char* to;
  const char* head;  // what lm_head.weight is called
};

class NamingTest : public testing::TestWithParam<Naming> {};

TEST_P(NamingTest, TheSameBits) {
  const Naming& naming = GetParam();
  const std::string original = std::string(ATOLL_SOURCE_DIR) + "/tests/golden/" + naming.fixture;
  const fs::path renamed = fs::path(testing::TempDir()) / fmt::format("naming_{}", fmt::ptr(&naming));
  fs::create_directories(renamed);
  std::ifstream file(original + "/config.json");
  nlohmann::json config = nlohmann::json::parse(file);
  if (*naming.model_type != '\0') {
    config = {{"model_type", naming.model_type}, {"text_config", config}, {"vision_config", {{"hidden_size", 7}}}};
  }
  std::ofstream(renamed / "config.json") << config;
  const Checkpoint checkpoint = *Checkpoint::Open(original + "/model.safetensors");
  std::vector<TensorToWrite> tensors;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    const std::string prefix = naming.from;
    const bool head = name == "lm_head.weight";
    ASSERT_TRUE(head || name.starts_with(prefix)) << name;
    tensors.push_back({head ? naming.head : naming.to + name.substr(prefix.size()), tensor});
  }
  tensors.push_back({"vision_tower.patch_embed.weight", tensors.front().tensor});
  tensors.push_back({"multi_modal_projector.norm.weight", tensors.back().tensor});
  ASSERT_TRUE(WriteSafetensors((renamed / "model.safetensors").string(), tensors).ok());

  std::vector<int32_t> ids(20);
  for (int i = 0; i < 20; ++i) ids[i] = i * 37 % 320;
  World one({.path = original, .topology = {1, 1}}), other({.path = renamed.string(), .topology = {2, 2}});
  const std::vector<float> want = one.Score(ids, 20, 20), got = other.Score(ids, 20, 20);
  ASSERT_EQ(want.size(), got.size());
  EXPECT_EQ(std::memcmp(want.data(), got.data(), want.size() * sizeof(float)), 0);
  fs::remove_all(renamed);
}

constexpr Naming kNamings[] = {
    {"mistral", "mistral3", "model.", "language_model.model.", "language_model.lm_head.weight"},
    {"mistral", "mistral3", "model.", "model.language_model.", "lm_head.weight"},
    {"gemma3", "gemma3", "model.", "language_model.model.", ""},
    {"gemma3", "gemma3", "model.", "model.language_model.", ""},
    {"gemma3n", "gemma3n", "model.", "model.language_model.", ""},
    {"llama4_scout", "llama4", "model.", "language_model.model.", "language_model.lm_head.weight"},
    {"gpt2", "", "transformer.", "", ""},
};
INSTANTIATE_TEST_SUITE_P(Namings, NamingTest, testing::ValuesIn(kNamings),
                         [](const auto& info) { return std::string(info.param.fixture) + std::to_string(info.index); });

}  // namespace
}  // namespace atl::models
