// GPT-2: positions are learned and added to the token's embedding, norms subtract the mean, everything has a bias.
//
//   x += attention(norm(x));  x += mlp(norm(x)), an MLP without a gate
#include "models/arch/table.h"
#include "models/layers/decoder.h"

namespace atl::models {
namespace {

struct Layer final : DecoderLayer {
  Norm attention_norm;
  Gqa attention;
  Norm mlp_norm;
  Mlp mlp;

  absl::Status Run(const Pass& pass, std::span<float> x) const override {
    ATOLL_ASSIGN_OR_RETURN(const auto attended, pass.Run(attention, pass.Run(attention_norm, x)));
    pass.Add(attended, x);
    ATOLL_ASSIGN_OR_RETURN(const auto mixed, pass.Run(mlp, pass.Run(mlp_norm, x)));
    pass.Add(mixed, x);
    return absl::OkStatus();
  }
};

std::unique_ptr<DecoderLayer> MakeLayer(const Builder& build, int64_t index) {
  const ModelSpec& spec = build.spec();
  const std::string name = build.LayerName(index, "h.");
  auto layer = std::make_unique<Layer>();
  layer->attention_norm = build.MakeNorm(name + "ln_1", spec.hidden);
  layer->attention = build.MakeGqa(index, name + "attn.", {"c_attn.q", "c_attn.k", "c_attn.v", "c_proj"});
  layer->mlp_norm = build.MakeNorm(name + "ln_2", spec.hidden);
  layer->mlp.up = build.Whole(name + "mlp.c_fc");
  layer->mlp.down = build.Share(name + "mlp.c_proj");
  layer->mlp.activation = spec.activation;
  layer->mlp.width = spec.layers[index].mlp;
  return layer;
}

}  // namespace

std::unique_ptr<Model> MakeGpt2(Runtime runtime) {
  return MakeDecoder(std::move(runtime), [](const Builder&) {
    return Architecture{.make_layer = MakeLayer, .embedding = "wte", .final_norm = "ln_f", .positions = "wpe"};
  });
}

}  // namespace atl::models
