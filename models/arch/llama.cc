// The pre-norm layer of Llama 3, Mistral Small 3, Qwen3 and SmolLM3:
//
//   x += attention(norm(x));  x += mlp(norm(x))
//
// What sets them apart is data: the width of a head (Mistral, Qwen3), norms of queries and keys (Qwen3), layers without
// rope (SmolLM3), how frequencies are stretched (Llama 3.1).
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
  const std::string name = build.LayerName(index);
  auto layer = std::make_unique<Layer>();
  layer->attention_norm = build.MakeNorm(name + "input_layernorm", build.spec().hidden);
  layer->attention = build.MakeGqa(index, name + "self_attn.");
  layer->mlp_norm = build.MakeNorm(name + "post_attention_layernorm", build.spec().hidden);
  layer->mlp = build.MakeMlp(name + "mlp.", build.spec().layers[index].mlp);
  return layer;
}

}  // namespace

std::unique_ptr<Model> MakeLlama(Runtime runtime) {
  return MakeDecoder(std::move(runtime), [](const Builder&) { return Architecture{.make_layer = MakeLayer}; });
}

}  // namespace atl::models
