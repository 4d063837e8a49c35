// Copies the slice of a parameter that a rank keeps. Only the pages that hold it are read.
//
//   ATOLL_ASSIGN_OR_RETURN(const StoredTensor stored, FindStored(checkpoint, parameter));
//   ATOLL_RETURN_IF_ERROR(ReadSlice(parameter, stored, slice, out));
#pragma once

#include "models/spec/parameters.h"
#include "models/weights/stored_tensor.h"

namespace atl::models {

// `out`: PackingOf(parameter.format, slice).bytes, laid out like that. A matrix must be stored in the parameter's
// format and keeps it: whole groups are copied as they are, with the scales they touch. A vector is widened to f32 from
// f32, f16 or bf16. Scales that are not finite are refused: one of them would make every answer a NaN.
absl::Status ReadSlice(const Parameter& parameter, const StoredTensor& stored, const Slice& slice, void* out);

// Asks the kernel for the pages that ReadSlice will copy and returns at once: a disk reads them while another slice is
// still at work. Returns their bytes.
int64_t AskForSlice(const StoredTensor& stored, const Slice& slice);

}  // namespace atl::models
