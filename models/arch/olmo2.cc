// OLMo 2 norms what a branch gives instead of what it reads:
//
//   x += norm(attention(x));  x += norm(mlp(x))
#include "models/arch/table.h"
#include "models/layers/decoder.h"

namespace atl::models {
namespace {

struct Layer final : DecoderLayer {
  Gqa attention;  // norms queries and keys over all heads
  Norm attended_norm;
  Mlp mlp;
  Norm mixed_norm;

  absl::Status Run(const Pass& pass, std::span<float> x) const override {
    ATOLL_ASSIGN_OR_RETURN(const auto attended, pass.Run(attention, x));
    pass.Add(pass.Run(attended_norm, attended), x);
    ATOLL_ASSIGN_OR_RETURN(const auto mixed, pass.Run(mlp, x));
    pass.Add(pass.Run(mixed_norm, mixed), x);
    return absl::OkStatus();
  }
};

std::unique_ptr<DecoderLayer> MakeLayer(const Builder& build, int64_t index) {
  const std::string name = build.LayerName(index);
  auto layer = std::make_unique<Layer>();
  layer->attention = build.MakeGqa(index, name + "self_attn.");
  layer->attended_norm = build.MakeNorm(name + "post_attention_layernorm", build.spec().hidden);
  layer->mlp = build.MakeMlp(name + "mlp.", build.spec().layers[index].mlp);
  layer->mixed_norm = build.MakeNorm(name + "post_feedforward_layernorm", build.spec().hidden);
  return layer;
}

}  // namespace

std::unique_ptr<Model> MakeOlmo2(Runtime runtime) {
  return MakeDecoder(std::move(runtime), [](const Builder&) { return Architecture{.make_layer = MakeLayer}; });
}

}  // namespace atl::models
