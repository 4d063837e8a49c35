// DeepSeek-V3 and R1, Kimi K2, Moonlight, and DeepSeek-V2-Lite: latent attention and a mixture of many small experts
// beside shared ones.
#include <numeric>

#include "models/spec/families/common.h"

namespace atl::models {
namespace {

void ReadLatentAttention(ConfigReader* config, ModelSpec* spec) {
  MlaSpec mla;
  mla.q_lora_rank = config->Integer("q_lora_rank", 1, kMaxWidth, 0);
  mla.kv_lora_rank = config->Integer("kv_lora_rank", 1, kMaxWidth);
  mla.nope_dim = config->Integer("qk_nope_head_dim", 1, kMaxHeadDim);
  mla.rope_dim = config->Integer("qk_rope_head_dim", 2, kMaxHeadDim);
  mla.v_dim = config->Integer("v_head_dim", 1, kMaxHeadDim);
  if (config->ok() && mla.rope_dim % 2 != 0) {
    config->Fail(InvalidArgument("config.json: qk_rope_head_dim is {}; it must be even", mla.rope_dim));
  }
  spec->mla = mla;
  spec->ropes = {ReadRope(config, {"yarn"})};
  spec->ropes[0].interleaved = true;
}

void ReadMixture(ConfigReader* config, ModelSpec* spec) {
  MoeSpec moe = ReadExperts(config, "n_routed_experts", "moe_intermediate_size");
  moe.shared_intermediate = moe.intermediate * config->Integer("n_shared_experts", 0, 64, 0);
  moe.groups = config->Integer("n_group", 1, kMaxExpertGroups, 1);
  moe.groups_kept = config->Integer("topk_group", 1, kMaxExperts, 1);
  moe.normalize = config->Flag("norm_topk_prob", true);
  moe.scaling = config->Number("routed_scaling_factor", 0, 1e6, 1);
  const int64_t first = config->Integer("first_k_dense_replace", 0, spec->num_layers(), 0);
  const int64_t step = config->Integer("moe_layer_freq", 1, kMaxLayers, 1);
  if (!config->ok()) return;
  if (moe.experts % moe.groups != 0) {
    config->Fail(
        InvalidArgument("config.json: n_group {} does not divide n_routed_experts {}", moe.groups, moe.experts));
  } else if (moe.groups_kept > moe.groups || moe.groups_kept * (moe.experts / moe.groups) < moe.top_k) {
    config->Fail(InvalidArgument("config.json: topk_group {} of n_group {} leaves too few experts for {} a token",
                                 moe.groups_kept, moe.groups, moe.top_k));
  } else if (moe.groups > 1 && moe.experts / moe.groups < 2) {
    config->Fail(InvalidArgument("config.json: n_group {} leaves {} expert a group; a group's score needs two",
                                 moe.groups, moe.experts / moe.groups));
  }
  spec->moe = moe;
  for (int64_t i = first; i < spec->num_layers(); i += step) {
    spec->layers[i].moe = true;
    spec->layers[i].mlp = spec->layers[i].stored_mlp = 0;
  }
}

void ListLatentAttention(TensorList* list) {
  const ModelSpec& spec = list->spec();
  const MlaSpec& mla = *spec.mla;
  const auto add = [&](const char* name, int64_t out, int64_t in, Sharding sharding, int64_t unit = 1) {
    return &list->Add(name, {out, in}, ParameterKind::kAttention, sharding, unit);
  };
  if (mla.q_lora_rank > 0) {
    add("self_attn.q_a_proj.weight", mla.q_lora_rank, spec.hidden, Sharding::kReplicated);
    list->Norm("self_attn.q_a_layernorm", mla.q_lora_rank);
    add("self_attn.q_b_proj.weight", spec.heads * mla.qk_dim(), mla.q_lora_rank, Sharding::kHeadRows);
  } else {
    add("self_attn.q_proj.weight", spec.heads * mla.qk_dim(), spec.hidden, Sharding::kHeadRows);
  }
  add("self_attn.kv_a_proj_with_mqa.weight", mla.latent_dim(), spec.hidden, Sharding::kReplicated);
  list->Norm("self_attn.kv_a_layernorm", mla.kv_lora_rank);
  if (mla.split_up) {
    add("self_attn.k_b_proj.weight", spec.heads * mla.kv_lora_rank, mla.nope_dim, Sharding::kHeadRows)->parts =
        mla.kv_lora_rank;
    add("self_attn.v_b_proj.weight", spec.heads * mla.v_dim, mla.kv_lora_rank, Sharding::kHeadRows)->parts = mla.v_dim;
  } else {
    add("self_attn.kv_b_proj.weight", spec.heads * (mla.nope_dim + mla.v_dim), mla.kv_lora_rank, Sharding::kHeadRows)
        ->parts = std::gcd(mla.nope_dim, mla.v_dim);
  }
  add("self_attn.o_proj.weight", spec.hidden, spec.heads * mla.v_dim, Sharding::kAxisColumns, mla.v_dim);
}

}  // namespace

void ReadDeepseekV3(ConfigReader* config, ModelSpec* spec) {
  ReadDecoder(config, spec, {.norm_eps = 1e-6, .tied = false});
  spec->mtp_layers = config->Integer("num_nextn_predict_layers", 0, 16, 0);
  ReadLatentAttention(config, spec);
  ReadMixture(config, spec);
  config->Require("scoring_func", "sigmoid");
  config->Require("topk_method", "noaux_tc");
}

void ReadDeepseekV2(ConfigReader* config, ModelSpec* spec) {
  ReadDecoder(config, spec, {.norm_eps = 1e-6, .tied = false});
  ReadLatentAttention(config, spec);
  ReadMixture(config, spec);
  if (spec->moe) spec->moe->router = RouterKind::kSoftmax;
  config->Require("scoring_func", "softmax");
  config->Require("topk_method", "greedy");
  config->Require("n_group", 1);
}

void ListDeepseek(TensorList* list) {
  const ModelSpec& spec = list->spec();
  list->Embedding("model.embed_tokens.weight");
  for (int64_t i = 0; i < spec.num_layers(); ++i) {
    list->BeginLayer("model.layers.", i);
    list->Norm("input_layernorm", spec.hidden);
    ListLatentAttention(list);
    list->Norm("post_attention_layernorm", spec.hidden);
    if (!list->layer().moe) {
      list->GatedMlp("mlp", list->layer().mlp, ParameterKind::kDense);
      continue;
    }
    const MoeSpec& moe = *spec.moe;
    list->Add("mlp.gate.weight", {moe.experts, spec.hidden}, ParameterKind::kRouter, Sharding::kReplicated);
    if (moe.router == RouterKind::kSigmoid) {
      list->Add("mlp.gate.e_score_correction_bias", {moe.experts}, ParameterKind::kRouter, Sharding::kReplicated);
    }
    list->Experts("mlp.experts");
    if (moe.shared_intermediate > 0) {
      list->GatedMlp("mlp.shared_experts", moe.shared_intermediate, ParameterKind::kSharedExpert);
    }
  }
  ListTail(list);
}

}  // namespace atl::models
