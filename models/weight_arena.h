// The weights that one rank keeps, in one arena in the order of Parameters(), and views of them by name.
//
//   ATOLL_ASSIGN_OR_RETURN(WeightArena weights, WeightArena::Load(options, rank, pool, progress));
//   kernels::Matrix q = weights.Matrix("model.layers.0.self_attn.q_a_proj.weight");
#pragma once

#include <map>

#include "models/arena.h"
#include "models/kernels/kernels.h"
#include "models/model.h"

namespace atl::models {

class WeightArena {
 public:
  // Reads (or makes) each slice of this rank. Errors name the tensor.
  static absl::StatusOr<WeightArena> Load(const LoadOptions& options, int rank, ThreadPool* pool,
                                          const LoadProgress& progress);

  // This rank's slice of a matrix in the format that the job keeps it in, and of a vector in f32, whatever its stored
  // type. A name that is not there breaks an invariant.
  kernels::Matrix Matrix(const std::string& name) const;
  const float* FloatVector(const std::string& name) const;

  // Aligned bytes by ParameterKind, as allocated.
  const std::array<int64_t, 8>& bytes() const { return bytes_by_kind_; }

 private:
  struct View {
    kernels::Matrix matrix;
    bool vector = false;
  };
  const View& Find(const std::string& name, bool vector) const;

  AlignedBytes bytes_;
  std::array<int64_t, 8> bytes_by_kind_{};
  std::map<std::string, View> views_;
};

}  // namespace atl::models
