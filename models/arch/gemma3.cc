// Gemma 3 norms what a branch reads and what it gives. Most layers see a sliding window (LayerSpec::reach).
//
//   x += norm(attention(norm(x)));  x += norm(mlp(norm(x)))
#include "models/arch/table.h"
#include "models/layers/decoder.h"

namespace atl::models {
namespace {

struct Layer final : DecoderLayer {
  Norm attention_norm;
  Gqa attention;
  Norm attended_norm;
  Norm mlp_norm;
  Mlp mlp;
  Norm mixed_norm;

  absl::Status Run(const Pass& pass, std::span<float> x) const override {
    ATOLL_ASSIGN_OR_RETURN(const auto attended, pass.Run(attention, pass.Run(attention_norm, x)));
    pass.Add(pass.Run(attended_norm, attended), x);
    ATOLL_ASSIGN_OR_RETURN(const auto mixed, pass.Run(mlp, pass.Run(mlp_norm, x)));
    pass.Add(pass.Run(mixed_norm, mixed), x);
    return absl::OkStatus();
  }
};

std::unique_ptr<DecoderLayer> MakeLayer(const Builder& build, int64_t index) {
  const ModelSpec& spec = build.spec();
  const std::string name = build.LayerName(index);
  auto layer = std::make_unique<Layer>();
  layer->attention_norm = build.MakeNorm(name + "input_layernorm", spec.hidden);
  layer->attention = build.MakeGqa(index, name + "self_attn.");
  layer->attended_norm = build.MakeNorm(name + "post_attention_layernorm", spec.hidden);
  layer->mlp_norm = build.MakeNorm(name + "pre_feedforward_layernorm", spec.hidden);
  layer->mlp = build.MakeMlp(name + "mlp.", spec.layers[index].mlp);
  layer->mixed_norm = build.MakeNorm(name + "post_feedforward_layernorm", spec.hidden);
  return layer;
}

}  // namespace

std::unique_ptr<Model> MakeGemma3(Runtime runtime) {
  return MakeDecoder(std::move(runtime), [](const Builder&) { return Architecture{.make_layer = MakeLayer}; });
}

}  // namespace atl::models
