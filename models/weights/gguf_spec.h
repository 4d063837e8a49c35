// The specification of a GGUF model: its metadata as the config.json that the same model is published with, and what
// its tensors are stored like otherwise (rotary factors in a tensor, norms with their one already added, keys and
// values in matrices of their own).
//
//   ATOLL_ASSIGN_OR_RETURN(ModelSpec spec, GgufModelSpec(*gguf));
//
// Architectures: llama (Llama 3, SmolLM2, Mistral), qwen3, qwen3moe, gemma3, deepseek2 (V2-Lite, V3, Moonlight, Kimi
// K2), gpt2. Others are refused by name.
#pragma once

#include "models/spec/model_spec.h"
#include "models/weights/formats/gguf.h"

namespace atl::models {

absl::StatusOr<ModelSpec> GgufModelSpec(const Gguf& gguf);

}  // namespace atl::models
