// GPT-2: learned positions, LayerNorm, biases, and Conv1D matrices, which are stored [in, out] (y = x W + b); the
// projection of queries, keys and values is one tensor of thirds.
#include <cmath>

#include "models/spec/families/common.h"

namespace atl::models {
namespace {

// Outputs [first, first + out) of a Conv1D [in, all], as a matrix [out, in] with its part of the bias.
void Conv1d(TensorList* list, const std::string& name, const char* part, int64_t first, int64_t out, int64_t in,
            int64_t all, ParameterKind kind, Sharding sharding, int64_t unit = 1) {
  const std::string weight = list->Name(name + ".weight"), bias = list->Name(name + ".bias");
  list->Add(name + part + ".weight", {out, in}, kind, sharding, unit).part =
      TensorPart{weight, {in, all}, first, 1, all};
  // The output of a product whose input is sharded is whole only at a row's home; its bias is added there.
  const Sharding bias_sharding = sharding == Sharding::kAxisColumns ? Sharding::kReplicated : sharding;
  list->Add(name + part + ".bias", {out}, kind, bias_sharding, unit).part = TensorPart{bias, {all}, first, 1, 1};
}

}  // namespace

void ReadGpt2(ConfigReader* config, ModelSpec* spec) {
  spec->vocab = config->Integer("vocab_size", 1, kMaxVocab);
  spec->hidden = config->Integer("n_embd", 1, kMaxWidth);
  MakeLayers(spec, config->Integer("n_layer", 1, kMaxLayers),
             config->Integer("n_inner", 1, kMaxWidth, 4 * spec->hidden));
  spec->heads = config->Integer("n_head", 1, kMaxHeads);
  spec->max_positions = config->Integer("n_positions", 1, 1 << 20);
  spec->norm = NormKind::kLayer;
  spec->norm_eps = config->Number("layer_norm_epsilon", 0, 1, 1e-5);
  spec->activation = Activation::kGeluTanh;
  spec->learned_positions = true;
  spec->tied_embeddings = config->Flag("tie_word_embeddings", true);
  for (LayerSpec& layer : spec->layers) layer.rope = -1;
  config->Require("activation_function", "gelu_new");
  config->Require("scale_attn_weights", true);
  config->Require("scale_attn_by_inverse_layer_idx", false);
  config->Require("add_cross_attention", false);
  if (!config->ok()) return;
  if (spec->hidden % spec->heads != 0) {
    return config->Fail(InvalidArgument("config.json: n_head {} does not divide n_embd {}", spec->heads, spec->hidden));
  }
  spec->gqa = GqaSpec{.kv_heads = spec->heads, .head_dim = spec->hidden / spec->heads};
  spec->gqa->scale = 1 / std::sqrt(static_cast<double>(spec->gqa->head_dim));
}

void ListGpt2(TensorList* list) {
  const ModelSpec& spec = list->spec();
  const int64_t hidden = spec.hidden;
  list->Embedding("wte.weight");
  list->Add("wpe.weight", {spec.max_positions, hidden}, ParameterKind::kEmbedding, Sharding::kReplicated);
  for (int64_t i = 0; i < spec.num_layers(); ++i) {
    list->BeginLayer("h.", i);
    list->Norm("ln_1", hidden);
    const auto third = [&](const char* part, int index, Sharding rows) {
      Conv1d(list, "attn.c_attn", part, index * hidden, hidden, hidden, 3 * hidden, ParameterKind::kAttention, rows);
    };
    third(".q", 0, Sharding::kHeadRows);
    third(".k", 1, Sharding::kKvHeadRows);
    third(".v", 2, Sharding::kKvHeadRows);
    Conv1d(list, "attn.c_proj", "", 0, hidden, hidden, hidden, ParameterKind::kAttention, Sharding::kAxisColumns,
           spec.gqa->head_dim);
    list->Norm("ln_2", hidden);
    const int64_t width = list->layer().mlp;
    Conv1d(list, "mlp.c_fc", "", 0, width, hidden, width, ParameterKind::kDense, Sharding::kAxisRows);
    Conv1d(list, "mlp.c_proj", "", 0, hidden, width, hidden, ParameterKind::kDense, Sharding::kAxisColumns);
  }
  list->EndLayers();
  list->Norm("ln_f", hidden);
  list->Head("lm_head.weight");
}

}  // namespace atl::models
