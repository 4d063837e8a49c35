// Weights in the format that a job keeps them in (models/spec/kept_formats.h), made while they are loaded.
//
//   ATOLL_RETURN_IF_ERROR(ConvertSlice(parameter, stored, slice, out, pool));   // from what the checkpoint stores
//   DummyPackedSlice(parameter, slice, out, pool);                              // from the name and positions alone
//
// Some rows at a time, so that nothing of the size of a tensor is held beside it. `out`: PackingOf(p.format, slice)
// bytes, zero before. The slice begins with a whole group of columns (the canonical blocks see to that).
#pragma once

#include <cmath>
#include <span>

#include "models/spec/parameters.h"
#include "models/weights/stored_tensor.h"
#include "parallel/base/thread_pool.h"

namespace atl::models {

// Between the values of a slice as stored and as kept.
struct Moved {
  double squares = 0;      // sum over the stored values
  double differences = 0;  // sum of squared differences
  float largest = 0;       // difference
  // The root of the mean squared difference over that of the values.
  double Relative() const { return squares > 0 ? std::sqrt(differences / squares) : 0; }
  void Add(std::span<const float> before, std::span<const float> after);
  void Add(const Moved& other);
};

constexpr bool CanConvertTo(WeightFormat format) {
  return IsPacked(format) || format == WeightFormat::kBF16 || format == WeightFormat::kFp8Block;
}

// parameter.format: one that CanConvertTo, stored in any other. Weights of 4 bits with a bf16 scale for each 32 columns
// (compressed-tensors) keep their values; everything else is decoded to f32 and rounded to the nearest value.
// `moved`, if not null, learns how far the values moved.
absl::Status ConvertSlice(const Parameter& parameter, const StoredTensor& stored, const Slice& slice, std::byte* out,
                          ThreadPool* pool, Moved* moved = nullptr);

// Packed elements, uniform with mean 0 and variance 1 / inputs, the same whatever the slice.
void DummyPackedSlice(const Parameter& parameter, const Slice& slice, std::byte* out, ThreadPool* pool);

}  // namespace atl::models
