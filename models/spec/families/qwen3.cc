// Qwen3, dense and mixture of experts: the Llama layer with queries and keys normed per head. head_dim is 128 whatever
// hidden / heads is.
#include <algorithm>

#include "models/spec/families/common.h"

namespace atl::models {
namespace {

constexpr int64_t kHeadDim = 128;

}  // namespace

void ReadQwen3(ConfigReader* config, ModelSpec* spec) {
  ReadDecoder(config, spec, {.norm_eps = 1e-6, .tied = false});
  ReadGqa(config, spec, kHeadDim);
  if (spec->gqa) spec->gqa->qk_norm = QkNorm::kPerHead;
  spec->ropes = {ReadRope(config, {})};
  config->Require("use_sliding_window", false);
}

void ReadQwen3Moe(ConfigReader* config, ModelSpec* spec) {
  ReadQwen3(config, spec);
  spec->moe = ReadExperts(config, "num_experts", "moe_intermediate_size");
  spec->moe->router = RouterKind::kSoftmax;
  spec->moe->normalize = config->Flag("norm_topk_prob", false);
  const int64_t step = config->Integer("decoder_sparse_step", 1, kMaxLayers, 1);
  const std::vector<int64_t> dense = config->Indices("mlp_only_layers", spec->num_layers());
  for (int64_t i = 0; i < spec->num_layers() && config->ok(); ++i) {
    LayerSpec& layer = spec->layers[i];
    layer.moe = (i + 1) % step == 0 && std::find(dense.begin(), dense.end(), i) == dense.end();
    if (layer.moe) layer.mlp = layer.stored_mlp = 0;
  }
}

void ListQwen3Moe(TensorList* list) {
  const ModelSpec& spec = list->spec();
  list->Embedding("model.embed_tokens.weight");
  for (int64_t i = 0; i < spec.num_layers(); ++i) {
    ListPreNormAttention(list, i);
    if (!list->layer().moe) {
      list->GatedMlp("mlp", list->layer().mlp, ParameterKind::kDense);
      continue;
    }
    list->Add("mlp.gate.weight", {spec.moe->experts, spec.hidden}, ParameterKind::kRouter, Sharding::kReplicated);
    list->Experts("mlp.experts");
  }
  ListTail(list);
}

}  // namespace atl::models
