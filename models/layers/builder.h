// One rank's weights as the layers want them: views by name, shares with their canonical blocks, whole layers as the
// specification describes them.
//
//   const Builder build(runtime);
//   Norm norm = build.MakeNorm("model.layers.0.input_layernorm", hidden);
//   Gqa attention = build.MakeGqa(0, "model.layers.0.self_attn.");
//   Mlp mlp = build.MakeMlp("model.layers.0.mlp.", build.spec().layers[0].mlp);
//
// Everything points into the runtime's weights, which must outlive it. A name that is not there breaks an invariant.
#pragma once

#include <map>

#include "models/layers/gqa.h"
#include "models/layers/moe.h"
#include "models/runtime.h"

namespace atl::models {

class Builder {
 public:
  explicit Builder(const Runtime& runtime);

  const ModelSpec& spec() const { return runtime_.spec; }
  const WeightArena& weights() const { return runtime_.weights; }
  // "model.layers.N." as the checkpoint numbers layer `index`.
  std::string LayerName(int64_t index, const char* prefix = "model.layers.") const;

  Norm MakeNorm(const std::string& name, int64_t width) const;
  // A matrix that is whole on this rank or cut by rows, with its bias if it has one.
  Linear Whole(const std::string& name) const;
  // This rank's columns of a matrix cut along its input axis: its share of the tensor-parallel group's, or another.
  Linear Share(const std::string& name) const { return Share(name, tp_rank_, tp_); }
  Linear Share(const std::string& name, int part, int parts) const;

  struct GqaNames {
    const char *query = "q_proj", *key = "k_proj", *value = "v_proj", *out = "o_proj";
  };
  Gqa MakeGqa(int64_t index, const std::string& name, const GqaNames& names) const;
  Gqa MakeGqa(int64_t index, const std::string& name) const { return MakeGqa(index, name, GqaNames()); }
  Mlp MakeMlp(const std::string& name, int64_t width) const;
  // `router` and `shared`: what the family calls the router and the shared experts.
  Moe MakeMoe(const std::string& name, const char* router, const char* shared) const;

 private:
  const float* Bias(const std::string& name) const;  // null: there is none

  const Runtime& runtime_;
  const int tp_, tp_rank_;
  std::map<std::string, CanonicalAxis> axes_;  // input axes of the matrices that are cut along them
  std::vector<std::string> biases_;            // sorted
};

}  // namespace atl::models
