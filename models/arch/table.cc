#include "models/arch/table.h"

namespace atl::models {
namespace {

// clang-format off: one line each
constexpr struct {
  const char* name;
  ArchitectureFactory make;
} kArchitectures[] = {
    {"deepseek_v3", MakeDeepseekV3},
    {"gemma3", MakeGemma3},
    {"gemma3n", MakeGemma3n},
    {"gpt2", MakeGpt2},
    {"llama", MakeLlama},
    {"llama4", MakeLlama4},
    {"olmo2", MakeOlmo2},
    {"qwen3_moe", MakeQwen3Moe},
};
// clang-format on

}  // namespace

absl::StatusOr<ArchitectureFactory> FindArchitecture(const std::string& name) {
  std::string known;
  for (const auto& architecture : kArchitectures) {
    if (name == architecture.name) return architecture.make;
    known += (known.empty() ? "" : ", ") + std::string(architecture.name);
  }
  return Unimplemented("architecture {} has no file under models/arch; there are: {}", name, known);
}

}  // namespace atl::models
