// What inside stored weights could be no finite number: the scales of GGUF's blocks, FP8's values.
#pragma once

#include <cstddef>
#include <cstdint>

#include "models/spec/weight_format.h"

namespace atl::models {

// Whether those of `count` blocks (FP8: values) are all finite. Other formats keep none here.
bool BlocksAreFinite(WeightFormat format, const std::byte* blocks, int64_t count);

}  // namespace atl::models
