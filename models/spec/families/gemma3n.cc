// Gemma 3n, the text tower. Beside Gemma 3's layer: four residual streams (AltUp), a low-rank branch (LAuReL), an
// embedding for each layer, sparse activations in the first layers, and last layers that read the keys and values of
// earlier ones. Widths may differ from layer to layer.
//
// MatFormer: a smaller model is part of a larger one. Its layers are some of the larger one's, its MLPs the first part
// of theirs (SliceMatFormer).
#include <cmath>

#include "models/spec/families/common.h"
#include "models/spec/matformer.h"

namespace atl::models {
namespace {

// The last layers have no keys and values: each reads those of the last layer before them with the same reach.
void ShareKeys(ConfigReader* config, ModelSpec* spec, int64_t shared) {
  const int64_t first = spec->num_layers() - shared;
  for (int64_t i = first; i < spec->num_layers(); ++i) {
    int64_t source = first - 1;
    while (source >= 0 && spec->layers[source].reach != spec->layers[i].reach) --source;
    if (source < 0) {
      return config->Fail(InvalidArgument(
          "config.json: num_kv_shared_layers {} leaves no layer of its own kind for layer {} to read", shared, i));
    }
    spec->layers[i].kv_layer = static_cast<int>(source);
  }
}

void ReadLayers(ConfigReader* config, ModelSpec* spec) {
  const int64_t count = config->Integer("num_hidden_layers", 1, kMaxLayers, 35);
  MakeLayers(spec, count, 0);
  ReadSlidingLayers(config, spec, 512, 5);
  const auto sparsity = config->Numbers("activation_sparsity_pattern", count, 0, 0.9999);
  std::optional<std::vector<int64_t>> widths;
  int64_t width = 0;
  if (config->HasList("intermediate_size")) {
    widths = config->Integers("intermediate_size", count, 1, kMaxWidth);
  } else {
    width = config->Integer("intermediate_size", 1, kMaxWidth, 16384);
  }
  const int64_t shared = config->Integer("num_kv_shared_layers", 0, count, 15);
  if (!config->ok()) return;
  for (int64_t i = 0; i < count; ++i) {
    LayerSpec& layer = spec->layers[i];
    layer.mlp = layer.stored_mlp = widths ? (*widths)[i] : width;
    layer.sparsity = sparsity ? (*sparsity)[i] : i < 10 && count > 10 ? 0.95 : 0;
  }
  ShareKeys(config, spec, shared);
}

}  // namespace

void ReadGemma3n(ConfigReader* config, ModelSpec* spec) {
  spec->vocab = config->Integer("vocab_size", 1, kMaxVocab, 262400);
  spec->hidden = config->Integer("hidden_size", 1, kMaxWidth, 2048);
  spec->heads = config->Integer("num_attention_heads", 1, kMaxHeads, 8);
  spec->max_positions = config->Integer("max_position_embeddings", 1, kMaxPositions, 32768);
  spec->norm_eps = config->Number("rms_norm_eps", 0, 1, 1e-6);
  spec->tied_embeddings = config->Flag("tie_word_embeddings", true);
  spec->gqa = GqaSpec{.kv_heads = config->Integer("num_key_value_heads", 1, kMaxHeads, 2),
                      .head_dim = config->Integer("head_dim", 2, kMaxHeadDim, 256),
                      .scale = 1,
                      .qk_norm = QkNorm::kPerHead,
                      .v_norm = true,
                      .temperature = {}};
  CheckGqa(config, *spec);
  ReadLayers(config, spec);
  spec->activation = Activation::kGeluTanh;
  spec->embedding_scale = std::sqrt(static_cast<double>(spec->hidden));
  spec->embeddings_are_active = false;
  spec->logit_softcap = config->Number("final_logit_softcapping", 1e-3, 1e6, 30);
  Gemma3nSpec extra;
  extra.streams = config->Integer("altup_num_inputs", 2, 16, 4);
  extra.correction_clip = config->Number("altup_coef_clip", 0, 1e9, 120);
  extra.laurel_rank = config->Integer("laurel_rank", 1, kMaxWidth, 64);
  extra.per_layer_width = config->Integer("hidden_size_per_layer_input", 1, kMaxWidth, 256);
  extra.per_layer_vocab = config->Integer("vocab_size_per_layer_input", 1, kMaxVocab, 262144);
  extra.stored_layers = spec->num_layers();
  spec->gemma3n = extra;
  config->Require("altup_active_idx", 0);
  config->Require("altup_correct_scale", true);
  config->Require("hidden_activation", "gelu_pytorch_tanh");
  config->Require("attention_bias", false);
}

void ListGemma3n(TensorList* list) {
  const ModelSpec& spec = list->spec();
  const Gemma3nSpec& extra = *spec.gemma3n;
  const int64_t hidden = spec.hidden, streams = extra.streams, inner = extra.per_layer_width;
  const int64_t table_width = extra.stored_layers * inner;
  const auto whole = [&](const std::string& name, std::vector<int64_t> shape, ParameterKind kind) -> Parameter& {
    return list->Add(name, std::move(shape), kind, Sharding::kReplicated);
  };
  list->Embedding("model.embed_tokens.weight");
  for (const StoredRun& run : StoredRuns(spec)) {
    const int64_t width = run.count * inner, first = run.stored * inner;
    list->Add("model.embed_tokens_per_layer" + run.suffix + ".weight", {extra.per_layer_vocab, width},
              ParameterKind::kEmbedding, Sharding::kVocabRows)
        .part =
        TensorPart{"model.embed_tokens_per_layer.weight", {extra.per_layer_vocab, table_width}, first, table_width, 1};
    whole("model.per_layer_model_projection" + run.suffix + ".weight", {width, hidden}, ParameterKind::kDense).part =
        TensorPart{"model.per_layer_model_projection.weight", {table_width, hidden}, first * hidden, hidden, 1};
  }
  list->Norm("model.per_layer_projection_norm", inner);
  for (const char* name : {"model.altup_projections", "model.altup_unembed_projections"}) {
    for (int64_t i = 0; i + 1 < streams; ++i) {
      whole(fmt::format("{}.{}.weight", name, i), {hidden, hidden}, ParameterKind::kDense);
    }
  }
  for (int64_t i = 0; i < spec.num_layers(); ++i) {
    list->BeginLayer("model.layers.", i);
    whole("altup.router_norm.weight", {hidden}, ParameterKind::kNorm);
    whole("altup.modality_router.weight", {streams, hidden}, ParameterKind::kDense);
    whole("altup.prediction_coefs.weight", {streams * streams, streams}, ParameterKind::kDense);
    whole("altup.correction_coefs.weight", {streams, streams}, ParameterKind::kDense);
    whole("altup.correct_output_scale", {hidden}, ParameterKind::kNorm);
    list->Norm("input_layernorm", hidden);
    whole("laurel.linear_left.weight", {extra.laurel_rank, hidden}, ParameterKind::kDense);
    whole("laurel.linear_right.weight", {hidden, extra.laurel_rank}, ParameterKind::kDense);
    list->Norm("laurel.post_laurel_norm", hidden);
    list->Gqa();
    list->Norm("post_attention_layernorm", hidden);
    list->Norm("pre_feedforward_layernorm", hidden);
    list->GatedMlp("mlp", list->layer().mlp, ParameterKind::kDense, list->layer().stored_mlp);
    list->Norm("post_feedforward_layernorm", hidden);
    whole("per_layer_input_gate.weight", {inner, hidden}, ParameterKind::kDense);
    whole("per_layer_projection.weight", {hidden, inner}, ParameterKind::kDense);
    list->Norm("post_per_layer_input_norm", hidden);
  }
  ListTail(list);
}

}  // namespace atl::models
