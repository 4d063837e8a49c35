// The safetensors container: 8 bytes of header length (little-endian), a JSON header, then the tensors' bytes.
//   {"name": {"dtype": "BF16", "shape": [out, in], "data_offsets": [begin, end]}, ..., "__metadata__": {...}}
// Offsets count from the end of the header. What a header says is checked against the file before it is believed.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/weights/checkpoint.h"
#include "models/weights/mapped_file.h"

namespace atl::models {

absl::StatusOr<std::map<std::string, TensorView>> ReadSafetensorsHeader(const MappedFile& file);

}  // namespace atl::models
