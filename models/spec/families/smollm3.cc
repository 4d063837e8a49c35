// SmolLM3: the Llama layer, one in four without rope. In no_rope_layers a 1 means that the layer HAS rope. theta is
// never assumed: the class's default is not the published model's.
#include "models/spec/families/common.h"

namespace atl::models {

void ReadSmolLm3(ConfigReader* config, ModelSpec* spec) {
  ReadDecoder(config, spec, {.norm_eps = 1e-6, .tied = true});
  ReadGqa(config, spec);
  spec->ropes = {ReadRope(config, {})};
  config->Require("use_sliding_window", false);
  const int64_t interval = config->Integer("no_rope_layer_interval", 1, kMaxLayers, 4);
  const auto turned = config->Integers("no_rope_layers", spec->num_layers(), 0, 1);
  if (!config->ok()) return;
  for (int64_t i = 0; i < spec->num_layers(); ++i) {
    const bool rope = turned ? (*turned)[i] == 1 : (i + 1) % interval != 0;
    spec->layers[i].rope = rope ? 0 : -1;
  }
}

}  // namespace atl::models
