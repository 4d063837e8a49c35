// What the families' files are written with: keys that mean the same in all of them, read with the same bounds.
#pragma once

#include "models/spec/families/family.h"

namespace atl::models {

// Beyond any published model, and small enough that products of three of them fit 64 bits.
inline constexpr int64_t kMaxWidth = 1 << 20, kMaxLayers = 4096, kMaxHeads = 4096, kMaxHeadDim = 4096;
inline constexpr int64_t kMaxExperts = 1 << 16, kMaxPositions = 1 << 28, kMaxVocab = 1 << 24;

// vocab_size, hidden_size, num_attention_heads, max_position_embeddings, rms_norm_eps, tie_word_embeddings and the
// layers: num_hidden_layers of them, each with an MLP of intermediate_size, rope 0 and its own keys and values. Biases
// and activations other than SiLU are refused.
struct Defaults {
  double norm_eps = 1e-6;
  bool tied = false;
};
void ReadDecoder(ConfigReader* config, ModelSpec* spec, const Defaults& absent);

// num_hidden_layers layers, numbered; `mlp` wide.
void MakeLayers(ModelSpec* spec, int64_t count, int64_t mlp);

// num_key_value_heads and head_dim (default: hidden / heads, or `head_dim`); scores are divided by its square root.
void ReadGqa(ConfigReader* config, ModelSpec* spec, std::optional<int64_t> head_dim = std::nullopt);
// The checks of ReadGqa, for a family that has filled spec->gqa itself.
void CheckGqa(ConfigReader* config, const ModelSpec& spec);

// rope_theta and rope_scaling, of the types that `types` names ("linear", "llama3", "yarn").
RopeSpec ReadRope(ConfigReader* config, std::initializer_list<const char*> types,
                  std::optional<double> theta = std::nullopt);

// num_experts_per_tok of `experts_key` experts, moe_intermediate_size wide under `width_key`.
MoeSpec ReadExperts(ConfigReader* config, const char* experts_key, const char* width_key);

// Gemma's layers: ropes 0 (rope_theta, rope_scaling) and 1 (rope_local_base_freq); layer_types, or else every
// `pattern`-th layer full, say which layers are sliding and take rope 1.
void ReadSlidingLayers(ConfigReader* config, ModelSpec* spec, int64_t window, int64_t pattern);

// input_layernorm, attention and post_attention_layernorm: the first half of a pre-norm layer under "model.layers.".
void ListPreNormAttention(TensorList* list, int64_t layer);
// model.norm and lm_head.
void ListTail(TensorList* list);

}  // namespace atl::models
