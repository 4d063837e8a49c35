// Llama 4 Scout and Maverick:
//
//   x += attention(norm(x));  x += shared(n) + expert(s n) or mlp(n), n = norm(x), s the score of the token's expert
//
// Layers that turn positions see their own chunk and norm queries and keys after the turn; the others see everything
// and let queries grow with the position. All of that is data of the attention.
#include "models/arch/table.h"
#include "models/layers/decoder.h"

namespace atl::models {
namespace {

struct Layer final : DecoderLayer {
  Norm attention_norm;
  Gqa attention;
  Norm mlp_norm;
  std::optional<Moe> moe;
  std::optional<Mlp> mlp;  // of a layer that is not a mixture

  absl::Status Run(const Pass& pass, std::span<float> x) const override {
    ATOLL_ASSIGN_OR_RETURN(const auto attended, pass.Run(attention, pass.Run(attention_norm, x)));
    pass.Add(attended, x);
    const std::span<float> normed = pass.Run(mlp_norm, x);
    ATOLL_ASSIGN_OR_RETURN(const auto mixed, moe ? pass.Run(*moe, normed) : pass.Run(*mlp, normed));
    pass.Add(mixed, x);
    return absl::OkStatus();
  }
};

std::unique_ptr<DecoderLayer> MakeLayer(const Builder& build, int64_t index) {
  const ModelSpec& spec = build.spec();
  const std::string name = build.LayerName(index);
  auto layer = std::make_unique<Layer>();
  layer->attention_norm = build.MakeNorm(name + "input_layernorm", spec.hidden);
  layer->attention = build.MakeGqa(index, name + "self_attn.");
  layer->mlp_norm = build.MakeNorm(name + "post_attention_layernorm", spec.hidden);
  if (spec.layers[index].moe) {
    layer->moe = build.MakeMoe(name + "feed_forward.", "router", "shared_expert");
  } else {
    layer->mlp = build.MakeMlp(name + "feed_forward.", spec.layers[index].mlp);
  }
  return layer;
}

}  // namespace

std::unique_ptr<Model> MakeLlama4(Runtime runtime) {
  return MakeDecoder(std::move(runtime), [](const Builder&) { return Architecture{.make_layer = MakeLayer}; });
}

}  // namespace atl::models
