// What a family's list of tensors is written with: names under the prefix of the present layer, in order.
//
//   list->BeginLayer("model.layers.", layer);
//   list->Norm("input_layernorm", spec.hidden);
//   list->Add("self_attn.q_proj.weight", {rows, hidden}, ParameterKind::kAttention, Sharding::kHeadRows);
#pragma once

#include "models/spec/parameters.h"

namespace atl::models {

class TensorList {
 public:
  explicit TensorList(const ModelSpec& spec) : spec_(spec) {}

  const ModelSpec& spec() const { return spec_; }
  const LayerSpec& layer() const { return spec_.layers[layer_]; }

  // What follows is of layer `layer`: its names begin with `prefix` and the number that it has in the checkpoint.
  void BeginLayer(const std::string& prefix, int64_t layer);
  void EndLayers();
  std::string Name(const std::string& name) const { return prefix_ + name; }

  // The reference is good until the next call.
  Parameter& Add(const std::string& name, std::vector<int64_t> shape, ParameterKind kind, Sharding sharding,
                 int64_t unit = 1);
  void Embedding(const std::string& name);  // [vocab, hidden]
  void Head(const std::string& name);       // the same; nothing if it is the embedding
  void Norm(const std::string& name, int64_t width);
  // self_attn's query, key, value and output projections, and its norms of queries and keys.
  void Gqa();
  // gate_proj, up_proj and down_proj, their inner axis cut over the tensor-parallel group; `stored`: how long that axis
  // is in the checkpoint.
  void GatedMlp(const std::string& name, int64_t width, ParameterKind kind, int64_t stored);
  void GatedMlp(const std::string& name, int64_t width, ParameterKind kind) { GatedMlp(name, width, kind, width); }
  // The three matrices of every routed expert: NAME.EXPERT.gate_proj.weight ...
  void Experts(const std::string& name);

  std::vector<Parameter> Take() { return std::move(list_); }

 private:
  const ModelSpec& spec_;
  std::vector<Parameter> list_;
  std::string prefix_;
  int layer_ = -1;
};

}  // namespace atl::models
