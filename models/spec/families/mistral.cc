// Mistral Small 3 and 3.1, the text tower: the Llama layer with heads that are not hidden / heads wide. Its checkpoints
// name the tower "language_model.model." or "model.language_model.". The multimodal config's own tie_word_embeddings
// means nothing for the text tower: the head is loaded unless the tower itself says that it is tied.
#include "models/spec/families/common.h"

namespace atl::models {

void ReadMistral(ConfigReader* config, ModelSpec* spec) {
  ReadDecoder(config, spec, {.norm_eps = 1e-6, .tied = false});
  ReadGqa(config, spec);
  spec->ropes = {ReadRope(config, {"linear"}, 10000)};
  if (!config->Has("sliding_window")) return;
  const int64_t window = config->Integer("sliding_window", 1, kMaxPositions);
  for (LayerSpec& layer : spec->layers) {
    layer.reach = Reach::kSliding;
    layer.extent = window;
  }
}

}  // namespace atl::models
