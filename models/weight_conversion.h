// Weights in the format that a job keeps them in (models/spec/kept_formats.h), made while they are loaded.
//
//   ATOLL_RETURN_IF_ERROR(ConvertSlice(parameter, stored, slice, out, pool));   // from what the checkpoint stores
//   DummyPackedSlice(parameter, slice, out, pool);                              // from the name and positions alone
//
// Some rows at a time, so that nothing of the size of a tensor is held beside it. `out`: PackingOf(p.format, slice)
// bytes, zero before. The slice begins with a whole group of columns (the canonical blocks see to that).
#pragma once

#include "models/spec/parameters.h"
#include "models/weights/stored_tensor.h"
#include "parallel/base/thread_pool.h"

namespace atl::models {

// parameter.format: bf16 or packed, stored in any other. Weights of 4 bits with a bf16 scale for each 32 columns
// (compressed-tensors) keep their values; everything else is decoded to f32 and rounded to the nearest value.
absl::Status ConvertSlice(const Parameter& parameter, const StoredTensor& stored, const Slice& slice, std::byte* out,
                          ThreadPool* pool);

// Packed elements, uniform with mean 0 and variance 1 / inputs, the same whatever the slice.
void DummyPackedSlice(const Parameter& parameter, const Slice& slice, std::byte* out, ThreadPool* pool);

}  // namespace atl::models
