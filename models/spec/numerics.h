// The numerics profile of a job: what is rounded to what. Every rank registers its own; a mixture is refused (law 1).
#pragma once

#include <string>

#include "parallel/base/dtype.h"
#include "parallel/base/status.h"

namespace atl::models {

struct Numerics {
  std::string name = "f32";
  DType wire = DType::kF32;  // rows on the wire: gathered latents and norms, dispatched rows, experts' results
  DType kv = DType::kF32;    // the KV cache; i8: with scales (KvScaleGroup in rank_memory.h)
  // Always: weights as stored, products and sums in f32, the residual stream in f32, tensor-parallel partial sums in
  // f32 on the wire (rounding those would make the bits depend on the degree).
  bool operator==(const Numerics&) const = default;
};

inline absl::StatusOr<Numerics> NumericsNamed(const std::string& name) {
  if (name == "f32") return Numerics{};
  if (name == "bf16") return Numerics{"bf16", DType::kBF16, DType::kBF16};
  if (name == "f32-kv8") return Numerics{"f32-kv8", DType::kF32, DType::kI8};
  if (name == "bf16-kv8") return Numerics{"bf16-kv8", DType::kBF16, DType::kI8};
  return InvalidArgument("--profile {} is unknown; f32, bf16, f32-kv8 and bf16-kv8 exist", name);
}

}  // namespace atl::models
