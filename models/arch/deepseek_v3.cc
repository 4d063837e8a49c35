// DeepSeek-V3 and R1, Kimi K2 (one expert group), Moonlight (no query compression, no YaRN) and V2-Lite.
//
//   x += attention(norm(x));  x += mlp or mixture of experts(norm(x))
#include "models/arch/table.h"
#include "models/layers/decoder.h"
#include "models/layers/rope.h"

namespace atl::models {
namespace {

// The class default of the norms inside attention, whatever the model's own epsilon is.
constexpr float kLatentNormEps = 1e-6f;

struct Layer final : DecoderLayer {
  Norm attention_norm;
  Mla attention;
  Norm mlp_norm;
  std::optional<Mlp> mlp;  // of a dense layer
  std::optional<Moe> moe;  // of the others

  absl::Status Run(const Pass& pass, std::span<float> x) const override {
    ATOLL_ASSIGN_OR_RETURN(const auto attended, pass.Run(attention, pass.Run(attention_norm, x)));
    pass.Add(attended, x);
    const std::span<float> normed = pass.Run(mlp_norm, x);
    ATOLL_ASSIGN_OR_RETURN(const auto mixed, moe ? pass.Run(*moe, normed) : pass.Run(*mlp, normed));
    pass.Add(mixed, x);
    return absl::OkStatus();
  }
};

Norm LatentNorm(const Builder& build, const std::string& name, int64_t width) {
  Norm norm = build.MakeNorm(name, width);
  norm.eps = kLatentNormEps;
  return norm;
}

Mla MakeMla(const Builder& build, const std::string& name) {
  const MlaSpec& spec = *build.spec().mla;
  Mla mla;
  if (spec.q_lora_rank > 0) {
    mla.query_down = build.Whole(name + "q_a_proj");
    mla.query_norm = LatentNorm(build, name + "q_a_layernorm", spec.q_lora_rank);
    mla.query_up = build.Whole(name + "q_b_proj");
  } else {
    mla.query_up = build.Whole(name + "q_proj");
  }
  mla.kv_down = build.Whole(name + "kv_a_proj_with_mqa");
  mla.kv_norm = LatentNorm(build, name + "kv_a_layernorm", spec.kv_lora_rank);
  mla.attention = {
      .mla = spec, .heads = mla.query_up.weight.rows / spec.qk_dim(), .up = {}, .scale = ScoreScale(build.spec())};
  if (spec.split_up) {
    mla.attention.key_up = build.weights().Matrix(name + "k_b_proj.weight");
    mla.attention.value_up = build.weights().Matrix(name + "v_b_proj.weight");
  } else {
    mla.attention.up = build.weights().Matrix(name + "kv_b_proj.weight");
  }
  mla.out = build.Share(name + "o_proj");
  return mla;
}

std::unique_ptr<DecoderLayer> MakeLayer(const Builder& build, int64_t index) {
  const ModelSpec& spec = build.spec();
  const std::string name = build.LayerName(index);
  auto layer = std::make_unique<Layer>();
  layer->attention_norm = build.MakeNorm(name + "input_layernorm", spec.hidden);
  layer->attention = MakeMla(build, name + "self_attn.");
  layer->mlp_norm = build.MakeNorm(name + "post_attention_layernorm", spec.hidden);
  if (spec.layers[index].moe) {
    layer->moe = build.MakeMoe(name + "mlp.", "gate", "shared_experts");
  } else {
    layer->mlp = build.MakeMlp(name + "mlp.", spec.layers[index].mlp);
  }
  return layer;
}

}  // namespace

std::unique_ptr<Model> MakeDeepseekV3(Runtime runtime) {
  return MakeDecoder(std::move(runtime), [](const Builder&) { return Architecture{.make_layer = MakeLayer}; });
}

}  // namespace atl::models
