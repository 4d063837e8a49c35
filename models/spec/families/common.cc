#include "models/spec/families/common.h"

#include <algorithm>
#include <cmath>

#include "parallel/base/shown.h"

namespace atl::models {
namespace {

YarnSpec ReadYarn(ConfigReader* scaling) {
  YarnSpec yarn;
  yarn.factor = scaling->Number("factor", 1, 1e6);
  yarn.beta_fast = scaling->Number("beta_fast", 0.01, 1e6, 32);
  yarn.beta_slow = scaling->Number("beta_slow", 0.01, 1e6, 1);
  yarn.mscale = scaling->Number("mscale", 0, 100, 1);
  yarn.mscale_all_dim = scaling->Number("mscale_all_dim", 0, 100, 0);
  yarn.original_positions = scaling->Integer("original_max_position_embeddings", 1, kMaxPositions);
  return yarn;
}

Llama3RopeSpec ReadLlama3(ConfigReader* scaling) {
  Llama3RopeSpec llama3;
  llama3.factor = scaling->Number("factor", 1, 1e6);
  llama3.low = scaling->Number("low_freq_factor", 0.01, 1e6);
  llama3.high = scaling->Number("high_freq_factor", 0.01, 1e6);
  llama3.original_positions = scaling->Integer("original_max_position_embeddings", 1, kMaxPositions);
  if (scaling->ok() && llama3.low > llama3.high) {
    scaling->Fail(InvalidArgument("config.json: rope_scaling: low_freq_factor {} is above high_freq_factor {}",
                                  llama3.low, llama3.high));
  }
  return llama3;
}

}  // namespace

void MakeLayers(ModelSpec* spec, int64_t count, int64_t mlp) {
  spec->layers.resize(count);
  for (int i = 0; i < count; ++i) {
    LayerSpec& layer = spec->layers[i];
    layer.kv_layer = layer.stored_layer = i;
    layer.mlp = layer.stored_mlp = mlp;
  }
}

void ReadDecoder(ConfigReader* config, ModelSpec* spec, const Defaults& absent) {
  spec->vocab = config->Integer("vocab_size", 1, kMaxVocab);
  spec->hidden = config->Integer("hidden_size", 1, kMaxWidth);
  MakeLayers(spec, config->Integer("num_hidden_layers", 1, kMaxLayers),
             config->Integer("intermediate_size", 1, kMaxWidth));
  spec->heads = config->Integer("num_attention_heads", 1, kMaxHeads);
  spec->max_positions = config->Integer("max_position_embeddings", 1, kMaxPositions);
  spec->norm_eps = config->Number("rms_norm_eps", 0, 1, absent.norm_eps);
  spec->tied_embeddings = config->Flag("tie_word_embeddings", absent.tied);
  config->Require("hidden_act", "silu");
  config->Require("attention_bias", false);
  config->Require("mlp_bias", false);
}

void ReadGqa(ConfigReader* config, ModelSpec* spec, std::optional<int64_t> head_dim) {
  if (!config->ok()) return;
  GqaSpec gqa;
  gqa.kv_heads = config->Integer("num_key_value_heads", 1, kMaxHeads, spec->heads);
  gqa.head_dim = config->Integer("head_dim", 2, kMaxHeadDim, head_dim.value_or(spec->hidden / spec->heads));
  gqa.scale = 1 / std::sqrt(static_cast<double>(gqa.head_dim));
  spec->gqa = gqa;
  CheckGqa(config, *spec);
}

void CheckGqa(ConfigReader* config, const ModelSpec& spec) {
  if (!config->ok()) return;
  if (spec.heads % spec.gqa->kv_heads != 0) {
    config->Fail(InvalidArgument("config.json: num_key_value_heads {} does not divide num_attention_heads {}",
                                 spec.gqa->kv_heads, spec.heads));
  }
  if (spec.gqa->head_dim < 2 || spec.gqa->head_dim % 2 != 0) {
    config->Fail(InvalidArgument("config.json: head_dim is {}; it must be even", spec.gqa->head_dim));
  }
}

RopeSpec ReadRope(ConfigReader* config, std::initializer_list<const char*> types, std::optional<double> theta) {
  RopeSpec rope;
  rope.theta = config->Number("rope_theta", 1, 1e12, theta);
  const nlohmann::json* object = config->Object("rope_scaling");
  if (object == nullptr) return rope;
  ConfigReader scaling(*object, "config.json: rope_scaling");
  const std::string type = scaling.Text("rope_type", scaling.Text("type", "default"));
  const auto knows = [&](const char* name) {
    return std::find(types.begin(), types.end(), std::string(name)) != types.end();
  };
  if (type == "yarn" && knows("yarn")) {
    rope.yarn = ReadYarn(&scaling);
  } else if (type == "llama3" && knows("llama3")) {
    rope.llama3 = ReadLlama3(&scaling);
  } else if (type == "linear" && knows("linear")) {
    rope.linear = scaling.Number("factor", 1, 1e6);
  } else if (type != "default") {
    scaling.Fail(InvalidArgument("config.json: rope_scaling type {} is not supported here; {} is", Shown(type),
                                 types.size() > 0 ? fmt::format("{}", fmt::join(types, " or ")) : "none"));
  }
  config->Fail(scaling.status());
  return rope;
}

MoeSpec ReadExperts(ConfigReader* config, const char* experts_key, const char* width_key) {
  MoeSpec moe;
  moe.experts = config->Integer(experts_key, 1, kMaxExperts);
  moe.top_k = config->Integer("num_experts_per_tok", 1, 64);
  moe.intermediate = config->Integer(width_key, 1, kMaxWidth);
  if (config->ok() && moe.top_k > moe.experts) {
    config->Fail(
        InvalidArgument("config.json: num_experts_per_tok is {}, but {} is {}", moe.top_k, experts_key, moe.experts));
  }
  return moe;
}

void ReadSlidingLayers(ConfigReader* config, ModelSpec* spec, int64_t window, int64_t pattern) {
  RopeSpec local;
  local.theta = config->Number("rope_local_base_freq", 1, 1e12, 10000);
  spec->ropes = {ReadRope(config, {"linear"}, 1e6), local};
  window = config->Integer("sliding_window", 1, kMaxPositions, window);
  pattern = config->Integer("sliding_window_pattern", 1, kMaxLayers,
                            config->Integer("_sliding_window_pattern", 1, kMaxLayers, pattern));
  const auto types = config->Texts("layer_types", spec->num_layers());
  for (int64_t i = 0; i < spec->num_layers() && config->ok(); ++i) {
    LayerSpec& layer = spec->layers[i];
    const std::string type = types ? (*types)[i] : (i + 1) % pattern == 0 ? "full_attention" : "sliding_attention";
    if (type == "sliding_attention") {
      layer.reach = Reach::kSliding;
      layer.extent = window;
      layer.rope = 1;
    } else if (type != "full_attention") {
      config->Fail(InvalidArgument("config.json: layer_types has {}; full_attention and sliding_attention are known",
                                   Shown(type)));
    }
  }
}

void ListPreNormAttention(TensorList* list, int64_t layer) {
  list->BeginLayer("model.layers.", layer);
  list->Norm("input_layernorm", list->spec().hidden);
  list->Gqa();
  list->Norm("post_attention_layernorm", list->spec().hidden);
}

void ListTail(TensorList* list) {
  list->EndLayers();
  list->Norm("model.norm", list->spec().hidden);
  list->Head("lm_head.weight");
}

}  // namespace atl::models
