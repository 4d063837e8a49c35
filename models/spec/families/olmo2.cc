// OLMo 2: norms on the branches' outputs instead of their inputs, and queries and keys normed over all heads at once.
#include "models/spec/families/common.h"

namespace atl::models {

void ReadOlmo2(ConfigReader* config, ModelSpec* spec) {
  ReadDecoder(config, spec, {.norm_eps = 1e-5, .tied = false});
  ReadGqa(config, spec);
  if (spec->gqa) spec->gqa->qk_norm = QkNorm::kAllHeads;
  spec->ropes = {ReadRope(config, {})};
}

void ListOlmo2(TensorList* list) {
  list->Embedding("model.embed_tokens.weight");
  for (int64_t i = 0; i < list->spec().num_layers(); ++i) {
    list->BeginLayer("model.layers.", i);
    list->Gqa();
    list->Norm("post_attention_layernorm", list->spec().hidden);
    list->GatedMlp("mlp", list->layer().mlp, ParameterKind::kDense);
    list->Norm("post_feedforward_layernorm", list->spec().hidden);
  }
  ListTail(list);
}

}  // namespace atl::models
