// Gemma 3, the text tower: most layers see a sliding window and turn with a base of their own; four norms a layer, all
// (1 + w). Published multimodal configs leave out what equals the class's defaults.
#include <cmath>

#include "models/spec/families/common.h"

namespace atl::models {

void ReadGemma3(ConfigReader* config, ModelSpec* spec) {
  spec->vocab = config->Integer("vocab_size", 1, kMaxVocab, 262208);
  spec->hidden = config->Integer("hidden_size", 1, kMaxWidth, 2304);
  MakeLayers(spec, config->Integer("num_hidden_layers", 1, kMaxLayers, 26),
             config->Integer("intermediate_size", 1, kMaxWidth, 9216));
  spec->heads = config->Integer("num_attention_heads", 1, kMaxHeads, 8);
  spec->max_positions = config->Integer("max_position_embeddings", 1, kMaxPositions, 131072);
  spec->norm_eps = config->Number("rms_norm_eps", 0, 1, 1e-6);
  spec->tied_embeddings = config->Flag("tie_word_embeddings", true);
  GqaSpec gqa;
  gqa.kv_heads = config->Integer("num_key_value_heads", 1, kMaxHeads, 4);
  gqa.head_dim = config->Integer("head_dim", 2, kMaxHeadDim, 256);
  gqa.scale = 1 / std::sqrt(config->Number("query_pre_attn_scalar", 1e-3, 1e6, 256));
  gqa.qk_norm = QkNorm::kPerHead;
  spec->gqa = gqa;
  CheckGqa(config, *spec);
  spec->norm = NormKind::kRmsPlusOne;
  spec->activation = Activation::kGeluTanh;
  spec->embedding_scale = std::sqrt(static_cast<double>(spec->hidden));
  spec->logit_softcap = config->Number("final_logit_softcapping", 1e-3, 1e6, 0);
  ReadSlidingLayers(config, spec, 4096, 6);
  config->Require("hidden_activation", "gelu_pytorch_tanh");
  config->Require("attn_logit_softcapping", nullptr);
  config->Require("use_bidirectional_attention", false);
  config->Require("attention_bias", false);
}

void ListGemma3(TensorList* list) {
  const int64_t hidden = list->spec().hidden;
  list->Embedding("model.embed_tokens.weight");
  for (int64_t i = 0; i < list->spec().num_layers(); ++i) {
    ListPreNormAttention(list, i);
    list->Norm("pre_feedforward_layernorm", hidden);
    list->GatedMlp("mlp", list->layer().mlp, ParameterKind::kDense);
    list->Norm("post_feedforward_layernorm", hidden);
  }
  ListTail(list);
}

}  // namespace atl::models
