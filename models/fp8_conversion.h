// A slice made block FP8 while it is loaded: ConvertSlice (weight_conversion.h) for that format.
//
// A block of 128 x 128 elements of the whole matrix has one scale, its largest magnitude / 448; the value is the
// nearest e4m3 to weight / scale. Blocks that a slice cuts are read whole, so a weight's value does not depend on the
// cut.
#pragma once

#include "models/weight_conversion.h"

namespace atl::models {

absl::Status ConvertSliceToFp8(const Parameter& parameter, const StoredTensor& stored, const Slice& slice,
                               std::byte* out, ThreadPool* pool, Moved* moved);

}  // namespace atl::models
