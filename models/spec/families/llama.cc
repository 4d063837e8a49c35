// Llama 3, 3.1 and 3.2, and whatever else has the plain pre-norm layer: grouped-query attention and a gated MLP.
#include "models/spec/families/common.h"

namespace atl::models {

void ReadLlama(ConfigReader* config, ModelSpec* spec) {
  ReadDecoder(config, spec, {.norm_eps = 1e-6, .tied = false});
  ReadGqa(config, spec);
  spec->ropes = {ReadRope(config, {"llama3", "linear"}, 10000)};
}

void ListLlama(TensorList* list) {
  list->Embedding("model.embed_tokens.weight");
  for (int64_t i = 0; i < list->spec().num_layers(); ++i) {
    ListPreNormAttention(list, i);
    list->GatedMlp("mlp", list->layer().mlp, ParameterKind::kDense);
  }
  ListTail(list);
}

}  // namespace atl::models
