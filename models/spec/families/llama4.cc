// Llama 4 Scout and Maverick, the text tower. Every fourth layer sees all positions and turns none; the others turn
// interleaved pairs and see their own chunk. A token's one expert reads the token scaled by its score; the experts of a
// layer lie in two fused tensors, stored as x W.
#include <algorithm>

#include "models/spec/families/common.h"

namespace atl::models {

void ReadLlama4(ConfigReader* config, ModelSpec* spec) {
  ReadDecoder(config, spec, {.norm_eps = 1e-5, .tied = false});
  ReadGqa(config, spec, 128);
  spec->ropes = {ReadRope(config, {"llama3"}, 500000)};
  spec->ropes[0].interleaved = true;
  if (!config->ok()) return;
  if (config->Flag("use_qk_norm", true)) spec->gqa->qk_norm = QkNorm::kL2;
  if (config->Switch("attn_temperature_tuning", true)) {
    spec->gqa->temperature = {.floor = config->Number("floor_scale", 1, 1e9, 8192),
                              .scale = config->Number("attn_scale", 0, 1e3, 0.1)};
  }
  spec->moe = ReadExperts(config, "num_local_experts", "intermediate_size");
  spec->moe->router = RouterKind::kScaledInputs;
  spec->moe->normalize = false;
  spec->moe->shared_intermediate = spec->moe->intermediate;
  if (config->ok() && spec->moe->top_k != 1) {
    config->Fail(InvalidArgument(
        "config.json: num_experts_per_tok is {}; 1 is supported, since an expert's input is scaled", spec->moe->top_k));
  }
  const int64_t count = spec->num_layers(), chunk = config->Integer("attention_chunk_size", 1, kMaxPositions, 8192);
  const int64_t step = config->Integer("interleave_moe_layer_step", 1, kMaxLayers, 1);
  const int64_t dense = config->Integer("intermediate_size_mlp", 1, kMaxWidth, 16384);
  std::optional<std::vector<int64_t>> turned;  // 1: the layer has rope
  if (config->HasList("no_rope_layers")) turned = config->Integers("no_rope_layers", count, 0, 1);
  const bool moe_listed = config->Has("moe_layers");
  const std::vector<int64_t> mixtures = config->Indices("moe_layers", count);
  for (int64_t i = 0; i < count && config->ok(); ++i) {
    LayerSpec& layer = spec->layers[i];
    const bool rope = turned ? (*turned)[i] == 1 : (i + 1) % 4 != 0;
    layer.rope = rope ? 0 : -1;
    layer.reach = rope ? Reach::kChunked : Reach::kFull;
    layer.extent = rope ? chunk : 0;
    layer.moe = moe_listed ? std::find(mixtures.begin(), mixtures.end(), i) != mixtures.end() : (i + 1) % step == 0;
    layer.mlp = layer.stored_mlp = layer.moe ? 0 : dense;
  }
}

void ListLlama4(TensorList* list) {
  const ModelSpec& spec = list->spec();
  const MoeSpec& moe = *spec.moe;
  const int64_t hidden = spec.hidden, width = moe.intermediate;
  list->Embedding("model.embed_tokens.weight");
  for (int64_t i = 0; i < spec.num_layers(); ++i) {
    ListPreNormAttention(list, i);
    if (!list->layer().moe) {
      list->GatedMlp("feed_forward", list->layer().mlp, ParameterKind::kDense);
      continue;
    }
    list->Add("feed_forward.router.weight", {moe.experts, hidden}, ParameterKind::kRouter, Sharding::kReplicated);
    const std::string fused_in = list->Name("feed_forward.experts.gate_up_proj");  // [experts, hidden, gate | up]
    const std::string fused_out = list->Name("feed_forward.experts.down_proj");    // [experts, width, hidden]
    const std::vector<int64_t> in_shape = {moe.experts, hidden, 2 * width}, out_shape = {moe.experts, width, hidden};
    for (int e = 0; e < moe.experts; ++e) {
      const auto add = [&](const char* matrix, int64_t rows, int64_t columns, Sharding sharding, TensorPart part) {
        Parameter& p = list->Add(fmt::format("feed_forward.experts.{}.{}_proj.weight", e, matrix), {rows, columns},
                                 ParameterKind::kRoutedExpert, sharding);
        p.expert = e;
        p.part = std::move(part);
      };
      add("gate", width, hidden, Sharding::kExpertRows, {fused_in, in_shape, e * hidden * 2 * width, 1, 2 * width});
      add("up", width, hidden, Sharding::kExpertRows,
          {fused_in, in_shape, e * hidden * 2 * width + width, 1, 2 * width});
      add("down", hidden, width, Sharding::kExpertColumns, {fused_out, out_shape, e * width * hidden, 1, hidden});
    }
    list->GatedMlp("feed_forward.shared_expert", moe.shared_intermediate, ParameterKind::kSharedExpert);
  }
  ListTail(list);
}

}  // namespace atl::models
