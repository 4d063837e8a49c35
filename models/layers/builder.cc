#include "models/layers/builder.h"

#include <algorithm>

namespace atl::models {
namespace {

// Borders of a rank's canonical blocks of an axis over heads, relative to the first column that the rank keeps.
HeadAxis AxisOfHeads(int64_t heads, int64_t head_dim, int64_t first_head, int tp_rank, int tp) {
  const CanonicalAxis axis{heads * head_dim, head_dim};
  HeadAxis mine{.cuts = {}, .width = axis.length};
  const int blocks = kCanonicalBlocks / tp;
  for (int b = 0; b <= blocks; ++b) mine.cuts.push_back(axis.BlockBegin(tp_rank * blocks + b) - first_head * head_dim);
  return mine;
}

}  // namespace

Builder::Builder(const Runtime& runtime)
    : runtime_(runtime), tp_(runtime.shape.topology.tp), tp_rank_(runtime.shape.topology.TpRankOf(runtime.rank)) {
  for (const Parameter& p : Parameters(runtime.spec)) {
    if (p.is_cut_by_columns()) axes_[p.name] = p.axis();
    if (p.name.ends_with(".bias")) biases_.push_back(p.name);
  }
  std::sort(biases_.begin(), biases_.end());
}

std::string Builder::LayerName(int64_t index, const char* prefix) const {
  return fmt::format("{}{}.", prefix, spec().layers[index].stored_layer);
}

Norm Builder::MakeNorm(const std::string& name, int64_t width) const {
  return {.weight = weights().FloatVector(name + ".weight"),
          .width = width,
          .eps = static_cast<float>(spec().norm_eps),
          .kind = spec().norm,
          .bias = Bias(name)};
}

const float* Builder::Bias(const std::string& name) const {
  const std::string bias = name + ".bias";
  return std::binary_search(biases_.begin(), biases_.end(), bias) ? weights().FloatVector(bias) : nullptr;
}

Linear Builder::Whole(const std::string& name) const {
  Linear linear = WholeLinear(weights().Matrix(name + ".weight"));
  linear.bias = Bias(name);
  return linear;
}

Linear Builder::Share(const std::string& name, int part, int parts) const {
  Linear linear = SharedLinear(weights().Matrix(name + ".weight"), axes_.at(name + ".weight"), part, parts);
  linear.bias = Bias(name);
  return linear;
}

Gqa Builder::MakeGqa(int64_t index, const std::string& name, const GqaNames& names) const {
  const LayerSpec& layer = spec().layers[index];
  const GqaSpec& gqa = *spec().gqa;
  Gqa made;
  made.query = Whole(name + names.query);
  made.out = Share(name + names.out);
  if (layer.kv_layer == index) {
    made.key = Whole(name + names.key);
    made.value = Whole(name + names.value);
  }
  made.spec = gqa;
  made.reach = {layer.reach, layer.extent};
  made.rope = layer.rope;
  made.interleaved = layer.rope >= 0 && spec().ropes[layer.rope].interleaved;
  made.heads = HeadsOf(spec(), tp_rank_, tp_);
  made.kv_heads = KvHeadsOf(spec(), tp_rank_, tp_);
  made.readers = spec().heads / gqa.kv_heads;
  made.eps = static_cast<float>(spec().norm_eps);
  made.norm_plus = spec().norm == NormKind::kRmsPlusOne ? 1.0f : 0.0f;
  if (gqa.qk_norm == QkNorm::kPerHead || gqa.qk_norm == QkNorm::kAllHeads) {
    made.query_norm = weights().FloatVector(name + "q_norm.weight");
    if (made.key) made.key_norm = weights().FloatVector(name + "k_norm.weight");
    made.query_axis = AxisOfHeads(spec().heads, gqa.head_dim, made.heads.begin, tp_rank_, tp_);
    made.key_axis = AxisOfHeads(gqa.kv_heads, gqa.head_dim, made.kv_heads.begin, tp_rank_, tp_);
  }
  return made;
}

Mlp Builder::MakeMlp(const std::string& name, int64_t width) const {
  return {.gate = Whole(name + "gate_proj"),
          .up = Whole(name + "up_proj"),
          .down = Share(name + "down_proj"),
          .activation = spec().activation,
          .width = width,
          .spread = {}};
}

Moe Builder::MakeMoe(const std::string& name, const char* router, const char* shared) const {
  const MoeSpec& moe = *spec().moe;
  Moe made{.router = {.gate = Whole(name + router), .bias = nullptr, .spec = moe}, .experts = {}, .shared = {}};
  if (moe.router == RouterKind::kSigmoid) {
    made.router.bias = weights().FloatVector(fmt::format("{}{}.e_score_correction_bias", name, router));
  }
  const parallel::ExpertPlacement& placement = runtime_.placement;
  const std::span<const int> local = placement.ExpertsOf(runtime_.rank);
  for (int i = 0; i < std::ssize(local); ++i) {
    const std::string expert = fmt::format("{}experts.{}.", name, local[i]);
    made.experts.push_back({Whole(expert + "gate_proj"), Whole(expert + "up_proj"),
                            Share(expert + "down_proj", placement.SliceAt(runtime_.rank, i), placement.slices())});
  }
  if (moe.shared_intermediate > 0) made.shared = MakeMlp(fmt::format("{}{}.", name, shared), moe.shared_intermediate);
  return made;
}

}  // namespace atl::models
