// The scales inside GGUF's blocks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "models/spec/weight_format.h"

namespace atl::models {

// Whether the scales of `count` blocks are all finite numbers. Formats whose scales are not in their blocks have none.
bool BlockScalesAreFinite(WeightFormat format, const std::byte* blocks, int64_t count);

}  // namespace atl::models
