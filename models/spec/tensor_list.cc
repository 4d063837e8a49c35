#include "models/spec/tensor_list.h"

namespace atl::models {

using Kind = ParameterKind;

void TensorList::BeginLayer(const std::string& prefix, int64_t layer) {
  layer_ = static_cast<int>(layer);
  prefix_ = fmt::format("{}{}.", prefix, spec_.layers[layer].stored_layer);
}

void TensorList::EndLayers() {
  prefix_.clear();
  layer_ = -1;
}

Parameter& TensorList::Add(const std::string& name, std::vector<int64_t> shape, Kind kind, Sharding sharding,
                           int64_t unit) {
  Parameter parameter;
  parameter.name = Name(name);
  parameter.shape = std::move(shape);
  parameter.kind = kind;
  parameter.sharding = sharding;
  parameter.unit = unit;
  parameter.layer = layer_;
  return list_.emplace_back(std::move(parameter));
}

void TensorList::Embedding(const std::string& name) {
  Add(name, {spec_.vocab, spec_.hidden}, Kind::kEmbedding, Sharding::kVocabRows);
}

void TensorList::Head(const std::string& name) {
  if (!spec_.tied_embeddings) Add(name, {spec_.vocab, spec_.hidden}, Kind::kHead, Sharding::kVocabRows);
}

void TensorList::Norm(const std::string& name, int64_t width) {
  Add(name + ".weight", {width}, Kind::kNorm, Sharding::kReplicated);
  if (spec_.norm == NormKind::kLayer) Add(name + ".bias", {width}, Kind::kNorm, Sharding::kReplicated);
}

void TensorList::Gqa() {
  const GqaSpec& gqa = *spec_.gqa;
  const int64_t width = gqa.head_dim, queries = spec_.heads * width, keys = gqa.kv_heads * width;
  const bool own = layer().kv_layer == layer_;
  const Sharding kv_rows = own ? Sharding::kKvHeadRows : Sharding::kNowhere;
  Add("self_attn.q_proj.weight", {queries, spec_.hidden}, Kind::kAttention, Sharding::kHeadRows);
  Add("self_attn.k_proj.weight", {keys, spec_.hidden}, Kind::kAttention, kv_rows);
  Add("self_attn.v_proj.weight", {keys, spec_.hidden}, Kind::kAttention, kv_rows);
  Add("self_attn.o_proj.weight", {spec_.hidden, queries}, Kind::kAttention, Sharding::kAxisColumns, width);
  if (gqa.qk_norm == QkNorm::kPerHead) {
    Add("self_attn.q_norm.weight", {width}, Kind::kNorm, Sharding::kReplicated);
    Add("self_attn.k_norm.weight", {width}, Kind::kNorm, own ? Sharding::kReplicated : Sharding::kNowhere);
  } else if (gqa.qk_norm == QkNorm::kAllHeads) {
    Add("self_attn.q_norm.weight", {queries}, Kind::kNorm, Sharding::kHeadRows);
    Add("self_attn.k_norm.weight", {keys}, Kind::kNorm, kv_rows);
  }
}

void TensorList::GatedMlp(const std::string& name, int64_t width, Kind kind, int64_t stored) {
  const int64_t hidden = spec_.hidden;
  for (const char* half : {".gate_proj.weight", ".up_proj.weight"}) {
    Parameter& rows = Add(name + half, {width, hidden}, kind, Sharding::kAxisRows);
    if (stored != width) rows.part = TensorPart{rows.name, {stored, hidden}, 0, hidden, 1};
  }
  Parameter& columns = Add(name + ".down_proj.weight", {hidden, width}, kind, Sharding::kAxisColumns);
  if (stored != width) columns.part = TensorPart{columns.name, {hidden, stored}, 0, stored, 1};
}

void TensorList::Experts(const std::string& name) {
  const MoeSpec& moe = *spec_.moe;
  const std::vector<int64_t> in = {moe.intermediate, spec_.hidden}, out = {spec_.hidden, moe.intermediate};
  for (int e = 0; e < moe.experts; ++e) {
    const auto add = [&](const char* matrix, const std::vector<int64_t>& shape, Sharding sharding) {
      Add(fmt::format("{}.{}.{}_proj.weight", name, e, matrix), shape, Kind::kRoutedExpert, sharding).expert = e;
    };
    add("gate", in, Sharding::kExpertRows);
    add("up", in, Sharding::kExpertRows);
    add("down", out, Sharding::kExpertColumns);
  }
}

}  // namespace atl::models
