// One parameter as a checkpoint stores it: where its bytes lie and how they are to be read. What a file's format finds
// and ReadSlice copies.
#pragma once

#include <cstddef>
#include <cstdint>

#include "models/spec/weight_format.h"

namespace atl::models {

struct StoredTensor {
  WeightFormat format = WeightFormat::kBF16;
  const std::byte* data = nullptr;  // of element (0, 0), in the mapped file
  int64_t row_bytes = 0;            // from one row to the next
  int64_t column_bytes = 0;         // from one group of columns to the next
  // Scales beside the matrix, f32, f16 or bf16; of an FP8 matrix they are widened to f32 in memory.
  const std::byte* scales = nullptr;
  DType scale_type = DType::kF32;
  int64_t scale_row_bytes = 0;
  // > 0: each run of so many rows (a head) is stored in rotary pairs: first those of its first half and its second half
  // in turn (GGUF's Llama).
  int64_t paired_rows = 0;
  // The tensor that it lies in, which other parameters may share, and how many more belong to that (scales, shapes).
  const void* tensor = nullptr;
  int beside = 0;
};

}  // namespace atl::models
