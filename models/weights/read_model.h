// A model as a specification: config.json or the metadata of a GGUF file, and the stored format of every weight from
// the files' headers.
//
//   ATOLL_ASSIGN_OR_RETURN(const ModelSpec spec, ReadModel("/models/DeepSeek-V3"));   // no tensor is read
//
// Coordinator and ranks plan from this value, so that they agree on every byte (law 7). `path` is a model directory, a
// GGUF file, or a config.json alone. Where there are no weights the formats are what config.json says; ReadModelSpec
// never looks further.
#pragma once

#include <set>

#include "models/spec/model_spec.h"
#include "models/weights/checkpoint.h"

namespace atl::models {

absl::StatusOr<ModelSpec> ReadModel(const std::string& path);
// The same without the formats: nothing is said of tensors that are missing or wrong.
absl::StatusOr<ModelSpec> ReadDescription(const std::string& path);

struct StoredWeights {
  int64_t tensors = 0;            // that hold parameters
  int64_t unused = 0;             // others
  int64_t bytes = 0;              // of the parameters as stored, scales included
  std::set<std::string> formats;  // of the matrices
};
// The formats of the spec's weights as the checkpoint stores them. The first tensor that is missing or wrong is an
// error.
absl::StatusOr<StoredWeights> AddStoredFormats(const Checkpoint& checkpoint, ModelSpec* spec);

}  // namespace atl::models
