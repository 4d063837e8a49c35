// What a job keeps weights in, where that is not what the checkpoint stores: they are converted while they are loaded.
//
//   ATOLL_ASSIGN_OR_RETURN(spec.kept, KeptFormats::Named("int4", ""));   // --weights, --head-weights
//   Parameters(spec)[i].format                                           // follows it, and so do the planner's bytes
//
// int4, int8: groups of 32 inputs with a bf16 scale, multiplied as integers (models/kernels/packed.h).
// q4_0, q8_0, q4_k, q6_k: GGUF's blocks, multiplied as integers. A tensor that a file stores so keeps its values.
// native: each matrix in the one of those four that it is stored in; others as stored.
// The products of the layers become so: attention, MLPs, experts. What stays as it is stored, as in the published
// quantised models:
//   - the router, norms and embeddings, and the head, unless it is chosen too (a tied head is the embedding)
//   - a matrix whose inputs do not fill groups, or are cut over ranks inside one: heads narrower than 32
//   - up projections of latents (kv_b_proj) whose heads do not fill tiles of 16 outputs
// Those up projections are multiplied by their transpose too, in the absorbed form: by their values in f32.
// bf16, fp8 (block FP8 as published): all products of the layers.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "models/spec/weight_format.h"
#include "parallel/base/status.h"

namespace atl::models {

struct Parameter;

struct KeptFormat {
  std::optional<WeightFormat> format;  // nullopt: as stored
  bool native = false;

  bool any() const { return format || native; }
  bool packed() const { return (format && IsPacked(*format)) || native; }
};

struct KeptFormats {
  KeptFormat layers, head;

  // Each of "stored" (or empty), "bf16", "fp8", "int8", "int4", "q4_0", "q8_0", "q4_k", "q6_k", "native".
  static absl::StatusOr<KeptFormats> Named(const std::string& weights, const std::string& head_weights);
  bool any() const { return layers.any() || head.any(); }
  bool packed() const { return layers.packed() || head.packed(); }
};

// Sets the formats of the parameters, which are as stored, and the units of the axes that they are cut along: a block
// of an axis holds whole groups.
void Keep(const KeptFormats& kept, bool tied_embeddings, std::vector<Parameter>* parameters);

}  // namespace atl::models
