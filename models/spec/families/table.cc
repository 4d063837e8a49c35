#include "models/spec/families/family.h"

namespace atl::models {
namespace {

constexpr Family kFamilies[] = {
    {"deepseek_v2", "DeepSeek-V2-Lite", "deepseek_v3", ReadDeepseekV2, ListDeepseek},
    {"deepseek_v3", "DeepSeek-V3, R1, Moonlight", "deepseek_v3", ReadDeepseekV3, ListDeepseek},
    {"gemma3_text", "Gemma 3", "gemma3", ReadGemma3, ListGemma3},
    {"gemma3n_text", "Gemma 3n", "gemma3n", ReadGemma3n, ListGemma3n},
    {"gpt2", "GPT-2", "gpt2", ReadGpt2, ListGpt2},
    {"kimi_k2", "Kimi K2", "deepseek_v3", ReadDeepseekV3, ListDeepseek},
    {"llama", "Llama 3", "llama", ReadLlama, ListLlama},
    {"llama4_text", "Llama 4", "llama4", ReadLlama4, ListLlama4},
    {"mistral", "Mistral Small 3", "llama", ReadMistral, ListLlama},
    {"olmo2", "OLMo 2", "olmo2", ReadOlmo2, ListOlmo2},
    {"qwen3", "Qwen3", "llama", ReadQwen3, ListLlama},
    {"qwen3_moe", "Qwen3-MoE", "qwen3_moe", ReadQwen3Moe, ListQwen3Moe},
    {"smollm3", "SmolLM3", "llama", ReadSmolLm3, ListLlama},
};

}  // namespace

const Family* FindFamily(const std::string& model_type) {
  for (const Family& family : kFamilies) {
    if (model_type == family.model_type) return &family;
  }
  return nullptr;
}

const Family& FamilyOf(const ModelSpec& spec) {
  const Family* family = FindFamily(spec.model_type);
  ATOLL_CHECK(family != nullptr, "model_type {} was not parsed", spec.model_type);
  return *family;
}

std::string KnownFamilies() {
  std::string known;
  for (const Family& family : kFamilies) {
    known += fmt::format("{}{} ({})", known.empty() ? "" : ", ", family.model_type, family.title);
  }
  return known;
}

}  // namespace atl::models
