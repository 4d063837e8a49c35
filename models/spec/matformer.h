// MatFormer: a smaller Gemma 3n inside a larger one (E4B -> E2B and what lies between), taken while loading.
//
//   ATOLL_RETURN_IF_ERROR(SliceMatFormer("skip=20-24 mlp=8192", &spec));
//   ATOLL_RETURN_IF_ERROR(SliceMatFormer("mlp=8192*10,16384*25", &spec));
//
// skip: layers of the checkpoint that are left out; the rest are renumbered. mlp: the width of every remaining MLP, or
// one for each (N*COUNT repeats): the first rows of gate and up and the first columns of down are kept. A layer that
// another one reads its keys and values from cannot be left out.
#pragma once

#include "models/spec/model_spec.h"

namespace atl::models {

absl::Status SliceMatFormer(const std::string& slice, ModelSpec* spec);

// Tensors that hold all layers of the checkpoint side by side are taken in runs of neighbouring ones that stay.
struct StoredRun {
  int64_t layer = 0;   // the first of the run
  int64_t stored = 0;  // its number in the checkpoint
  int64_t count = 0;
  std::string suffix;  // of the run's parameters: none where it is the whole tensor
};
std::vector<StoredRun> StoredRuns(const ModelSpec& spec);

}  // namespace atl::models
